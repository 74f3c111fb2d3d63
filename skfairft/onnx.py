"""A model in ONNX format as a torch module, for example as a frozen feature extractor.

onnxruntime is imported when a model is loaded.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["OnnxModule"]

_DTYPES = {
    f"tensor({name})": getattr(torch, name)
    for name in (
        *("float", "double", "float16", "int64", "int32", "int16", "int8"),
        *("uint64", "uint32", "uint16", "uint8", "bool"),
    )
}

# What protobuf, the file format, can hold; larger models keep their weights in other files.
_MAX_BYTES = 2**31 - 1

# A tensor's field 13, external_data (tag 0x6a, one or two bytes of length), with the key
# "location": the weights are in another file. onnxruntime alone would look for that file in the
# current folder, where another one of that name may lie.
_EXTERNAL_DATA = re.compile(rb"\x6a[\x00-\xff]{1,2}\x0a\x08location\x12")

_OPENING = threading.Lock()


class OnnxModule(nn.Module):
    """An ONNX model, run by onnxruntime, as a torch module.

    The model's bytes are a buffer of the module, so that it can be copied,
    pickled and fingerprinted without the file. It has no parameters and passes
    no gradients.

    Parameters
    ----------
    model : str, path-like or bytes
        The model's file or its content, below 2 GB and with its weights inside.
    output : str, default=None
        Name of the output to return; None is the only one.
    providers : list, default=None
        onnxruntime's execution providers, best first, for example
        ``["CUDAExecutionProvider", "CPUExecutionProvider"]``. None is the CPU.
    threads : int, default=None
        Threads within one call; None is as many as torch uses.

    Raises
    ------
    ImportError
        If onnxruntime is not installed.
    ValueError
        If the model cannot be loaded or has not this output, and in a call, for
        inputs whose names, shapes or values are not those that the graph declares.
    RuntimeError
        In a call that fails in onnxruntime, for lack of memory, say.

    Notes
    -----
    Inputs are tensors, positional in the order of the graph's inputs or by name.
    They are cast to the type that the graph declares, but not to integers if
    that would change them. The result is on the device of the first one; the
    buffer itself stays on the CPU, wherever the module is moved.

    Examples
    --------
    >>> import onnx
    >>> import torch
    >>> from skfairft.onnx import OnnxModule
    >>> graph = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["": 17]>
    ...     sums (float[N, 3] x) => (float[N, 1] y) <float[3, 1] w = {1, 1, 1}> {y = MatMul(x, w)}
    ... ''')
    >>> module = OnnxModule(graph.SerializeToString())  # or a path
    >>> module
    OnnxModule(x: float32 (N, 3) -> y: float32 (N, 1))
    >>> module(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[6.]])
    """

    file: Tensor

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        output: str | None = None,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads!r}; expected a positive int or None.")
        data = _read(model)
        # A copy: the buffer must be writable for load_state_dict, bytes are not.
        self.register_buffer("file", torch.from_numpy(np.frombuffer(data, np.uint8).copy()))
        self.output = output
        self.providers = ["CPUExecutionProvider"] if providers is None else list(providers)
        self.threads = threads
        self._check_model()

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """Run the model.

        Parameters
        ----------
        *args, **kwargs : Tensor
            The graph's inputs, in its order or by name.

        Returns
        -------
        Tensor
            The output, on the device of the first input.
        """
        session = self._session()
        declared = session.get_inputs()
        inputs = _by_name(args, kwargs, declared)
        feeds = {node.name: _fit_input(inputs[node.name], node) for node in declared}
        try:
            (result,) = session.run([self.output], feeds)
        # onnxruntime's errors share no base class, and none is a RuntimeError as torch's are. The
        # text stays: by it, the extractor knows that memory was short and takes smaller batches.
        except Exception as error:
            shapes = {name: value.shape for name, value in feeds.items()}
            raise RuntimeError(
                f"onnxruntime failed on inputs of shape {shapes}: "
                f"{type(error).__name__}: {str(error).strip()}"
            ) from error
        device = next((value.device for value in inputs.values()), None)
        return torch.from_numpy(result).to(device)

    def extra_repr(self) -> str:
        """Return the graph's inputs and the output in use."""
        return self._signature

    @property
    def is_quantized(self) -> bool:
        """Whether the graph has integer arithmetic."""
        content = self.file.numpy().tobytes()
        return b"QuantizeLinear" in content or b"Integer" in content

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Change nothing: on a GPU the file would only take memory, from there it cannot run."""
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._check_model()

    def _check_model(self) -> None:
        """Load the model afresh and choose the output."""
        # One session per process, because its threads do not live on in a forked one. Sessions
        # of the parent are kept there: to close one waits for those threads.
        self._sessions: dict[int, Any] = {}
        session = self._session()
        outputs = {node.name: node for node in session.get_outputs()}
        if self.output is None and len(outputs) == 1:
            (self.output,) = outputs
        if self.output not in outputs:
            arrived = "several outputs" if self.output is None else f"no output {self.output!r}"
            raise ValueError(
                f"The ONNX model has {arrived}; choose one by output=. It has: "
                f"{_describe(*outputs.values())}."
            )
        used = [*session.get_inputs(), outputs[self.output]]
        odd = [node for node in used if node.type not in _DTYPES]
        if odd:
            raise ValueError(
                f"The ONNX model has inputs or outputs of types that are not torch's: "
                f"{_describe(*odd)}. Expected {', '.join(_DTYPES)}. Leave such steps out when "
                "exporting the model, or choose another output."
            )
        self._signature = f"{_describe(*used[:-1])} -> {_describe(used[-1])}"

    def _session(self) -> Any:
        """Return this process's session, made when first needed; it is safe to share by threads."""
        process = os.getpid()
        with _OPENING:
            if process not in self._sessions:
                self._sessions[process] = _open(
                    self.file.numpy().tobytes(), self.providers, self.threads
                )
            return self._sessions[process]


def _read(model: str | os.PathLike[str] | bytes) -> bytes:
    """Return a model's content, if it is all there."""
    if isinstance(model, bytes):
        data = model
    elif isinstance(model, (str, os.PathLike)):
        data = Path(model).read_bytes()
    else:
        raise ValueError(
            f"model is {type(model).__name__}; expected the path of an .onnx file or its bytes "
            "(onnx_model.SerializeToString())."
        )
    if len(data) > _MAX_BYTES:
        raise ValueError(
            f"The ONNX model has {len(data):,} bytes; at most {_MAX_BYTES:,} are possible. Export "
            "it in half precision, or use it as a torch module."
        )
    if _EXTERNAL_DATA.search(data):
        raise ValueError(
            "The ONNX model keeps its weights in other files. Put them into one file: "
            "torch.onnx.export(..., external_data=False), or "
            "onnx.save_model(onnx.load(path), new_path, save_as_external_data=False)."
        )
    return data


def _open(data: bytes, providers: list[Any], threads: int | None) -> Any:
    """Return an onnxruntime session."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "ONNX models need onnxruntime, which is not installed: pip install 'skfairft[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    # Its own default is all cores, also in each of several worker processes.
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    options.log_severity_level = 4  # its errors arrive as exceptions already
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # see OnnxModule.forward
        raise ValueError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {error}"
        ) from error


def _by_name(
    args: tuple[Tensor, ...], kwargs: dict[str, Tensor], declared: list[Any]
) -> dict[str, Tensor]:
    """Return the inputs by the graph's names, if they are exactly the declared ones."""
    names = [node.name for node in declared]
    inputs = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(args) + len(kwargs) != len(names) or set(inputs) != set(names):
        arrived = [f"{len(args)} positional"] if args else []
        raise ValueError(
            f"The ONNX model got as inputs: {', '.join([*arrived, *kwargs]) or 'none'}; expected: "
            f"{_describe(*declared)}. Let preprocess return just these."
        )
    return inputs


def _fit_input(value: Any, node: Any) -> Any:
    """Return one input as an array of the type and shape that the graph declares.

    Names and None in the shape are free sizes; an empty one also stands for an unknown one.
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"Input {node.name!r} of the ONNX model is {type(value).__name__}; expected a tensor."
        )
    shape = tuple(value.shape)
    wrong = [
        axis
        for axis, (size, expected) in enumerate(zip(shape, node.shape, strict=False))
        if isinstance(expected, int) and size != expected
    ]
    if node.shape and (wrong or len(shape) != len(node.shape)):
        remedy = ""
        if wrong == [0]:
            remedy = (
                f" The graph's batch size is fixed to {node.shape[0]}: export the model with a "
                "dynamic batch axis"
            )
            one = node.shape[0] == 1
            remedy += ", or use batch_size=1 in FrozenFeatureExtractor." if one else "."
        raise ValueError(
            f"Input {node.name!r} of the ONNX model has shape {shape}; expected "
            f"{_describe(node)}.{remedy}"
        )
    dtype = _DTYPES[node.type]
    tensor = value.detach().cpu()
    cast = tensor.to(dtype)
    if not dtype.is_floating_point and not torch.equal(cast.to(tensor.dtype), tensor):
        raise ValueError(
            f"Input {node.name!r} of the ONNX model has values of {tensor.dtype} that are no "
            f"{dtype}, which the graph expects: fractions, NaN, or numbers too large."
        )
    return cast.numpy()


def _describe(*nodes: Any) -> str:
    """Return inputs or outputs of a graph with their types and shapes."""
    texts = []
    for node in nodes:
        kind = str(_DTYPES.get(node.type, node.type)).removeprefix("torch.")
        sizes = ", ".join("?" if size is None else str(size) for size in node.shape or ())
        texts.append(f"{node.name}: {kind} ({sizes})" if sizes else f"{node.name}: {kind}")
    return ", ".join(texts)
