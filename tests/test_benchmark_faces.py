"""The benchmarks' faces: the same rows from any layout of the files; what to do without them."""

import io
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from skfairft.preprocessing import ImageFiles

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _shared.faces import BACKBONES, FACES, backbone_head, load_faces, load_mobilenet_v2, missing
from _shared.files import Crop
from _shared.mobilenet_v2 import MobileNetV2
from _shared.resnet18 import ResNet18, load_resnet18

ATTRIBUTES = ["5_o_Clock_Shadow", "Heavy_Makeup", "Male", *(f"Attribute_{i}" for i in range(37))]
INPUT = {"size": 64, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
BOXES = {"celeba": (15, 35, 163, 183), "lfw": (50, 36, 200, 186)}
SIZES = {"celeba": (178, 218), "lfw": (250, 250)}
ORIGINALS = {
    "celeba": [
        "celeba/img_align_celeba or celeba/img_align_celeba.zip",
        "celeba/list_attr_celeba.txt",
        "celeba/identity_CelebA.txt",
    ],
    "lfw": ["lfw/lfw-deepfunneled or lfw/lfw-deepfunneled.tgz", "lfw/lfw_att_40.mat"],
}
COPIES = {
    "celeba": ["celeba/images_64.zip", "celeba/attributes.csv.gz"],
    "lfw": ["lfw/images_96.zip", "lfw/attributes.csv.gz"],
}
WEIGHTS = {
    "resnet18": "weights/resnet18_celeba64_attributes.pth or weights/resnet18-f37072fd.pth",
    "mobilenet_v2": "weights/mobilenet_v2_imagenet.pth or weights/mobilenet_v2-b0353104.pth",
}

# Of CelebA by number, of LFW by name; in neither the files' order is that of the names.
IDENTITIES = {"000003.jpg": 7, "000001.jpg": 4, "000002.jpg": 11, "000005.jpg": 7, "000004.jpg": 8}
PEOPLE = {
    "Zoe_Ball_0001.jpg": "Zoe_Ball",
    "AJ_Cook_0001.jpg": "AJ_Cook",
    "Aaron_Hill_0002.jpg": "Aaron_Hill",
    "Aaron_Hill_0001.jpg": "Aaron_Hill",
}
UNLABELLED = "Aaron_Hill_0003.jpg"
LABELS = {
    name: np.random.default_rng(0).integers(0, 2, (len(people), 40))
    for name, people in (("celeba", IDENTITIES), ("lfw", PEOPLE))
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of random weights, in the three files' own forms."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(ResNet18(1000).state_dict(), folder / "resnet18-f37072fd.pth")
        torch.save(MobileNetV2().state_dict(), folder / "mobilenet_v2-b0353104.pth")
        half = {key: value.half() for key, value in ResNet18(35).state_dict().items()}
    saved = {"state_dict": half, "attributes": ATTRIBUTES[:35], "input": INPUT}
    torch.save(saved, folder / "resnet18_celeba64_attributes.pth")
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch, weights):
    """The folder of SKFAIRFT_DATA, with the two files of weights that go first."""
    folder = tmp_path / "data"
    (folder / "weights").mkdir(parents=True)
    for name in ("resnet18_celeba64_attributes.pth", "mobilenet_v2-b0353104.pth"):
        os.link(weights / name, folder / "weights" / name)
    monkeypatch.setenv("SKFAIRFT_DATA", str(folder))
    return folder


def write_images(name, folder):
    """Write a random image per row into the folder, those of LFW into one of each person."""
    rng = np.random.default_rng(1)
    people = (
        {**PEOPLE, UNLABELLED: "Aaron_Hill"} if name == "lfw" else dict.fromkeys(IDENTITIES, "")
    )
    for image, person in people.items():
        (folder / person).mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize(SIZES[name]).save(folder / person / image)


def write_celeba(data):
    """Write CelebA as it is published."""
    write_images("celeba", data / "celeba" / "img_align_celeba")
    rows = [
        f"{image} {' '.join(f'{2 * value - 1:2d}' for value in row)}\n"
        for image, row in zip(IDENTITIES, LABELS["celeba"], strict=True)
    ]
    head = f"{len(rows)}\n{' '.join(ATTRIBUTES)} \n"  # the published one ends in a blank, too
    (data / "celeba" / "list_attr_celeba.txt").write_text(head + "".join(rows))
    people = "".join(f"{image} {IDENTITIES[image]}\n" for image in sorted(IDENTITIES))
    (data / "celeba" / "identity_CelebA.txt").write_text(people)


def cells(texts):
    """Return a MATLAB cell array (n, 1)."""
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return array


def write_mat(path, labels, slash="\\"):
    content = {
        "name": cells([f"{person}{slash}{image}" for image, person in PEOPLE.items()]),
        "AttrName": cells([name.replace("_", " ") for name in ATTRIBUTES]),
        "label": labels.astype(float),
    }
    savemat(path, content)


def write_lfw(data):
    """Write LFW and its attributes as they are published."""
    write_images("lfw", data / "lfw" / "lfw-deepfunneled")
    write_mat(data / "lfw" / "lfw_att_40.mat", LABELS["lfw"])


def write(name, data):
    {"celeba": write_celeba, "lfw": write_lfw}[name](data)
    return data / {"celeba": "celeba/img_align_celeba", "lfw": "lfw/lfw-deepfunneled"}[name]


def pack(folder):
    """Put the folder of originals into the archive it is published as, and delete it."""
    if folder.name == "img_align_celeba":
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"{folder.name}/{path.name}")
            archive.writestr(f"__MACOSX/{folder.name}/._000001.jpg", b"not an image")
    else:
        with tarfile.open(folder.with_suffix(".tgz"), "w:gz") as archive:
            archive.add(folder, folder.name)
    shutil.rmtree(folder)


def write_copy(name, originals, data, size):
    """Write the small copy of what is in a folder of originals, without loss."""
    (data / name).mkdir(exist_ok=True)
    people = PEOPLE if name == "lfw" else IDENTITIES
    with zipfile.ZipFile(data / name / COPIES[name][0].split("/")[1], "w") as archive:
        for image in sorted(people):
            with Image.open(next(originals.rglob(image))) as whole:
                small = whole.crop(BOXES[name]).resize((size, size), Image.Resampling.BILINEAR)
            lossless = io.BytesIO()
            small.save(lossless, "png")  # Pillow goes by the content, not by the file's name
            archive.writestr(image, lossless.getvalue())
    table = pd.DataFrame(LABELS[name], columns=ATTRIBUTES)
    table.insert(0, "image", list(people))
    table.insert(1, "person" if name == "lfw" else "identity", list(people.values()))
    table.insert(2, "split", "train")
    table.sort_values("image").to_csv(data / name / "attributes.csv.gz", index=False)


def assert_same(faces, others):
    np.testing.assert_array_equal(faces.Z, others.Z)
    np.testing.assert_array_equal(faces.people, others.people)
    pd.testing.assert_frame_equal(faces.attributes, others.attributes)
    assert faces.weights == others.weights


class TestRows:
    @pytest.mark.parametrize(
        ("name", "rows", "people"),
        [("celeba", [2, 0, 3], [0, 1, 1]), ("lfw", [1, 3, 2, 0], [0, 1, 1, 2])],
    )
    def test_sorted_and_of_odd_identities(self, data, tmp_path, name, rows, people):
        write(name, data)
        loaded = [load_faces(name, backbone, tmp_path / "cache") for backbone in BACKBONES]
        for faces, width in zip(loaded, (512, 1280), strict=True):
            assert faces.Z.shape == (len(rows), width)
            assert faces.Z.dtype == np.float32
            assert list(faces.attributes) == ATTRIBUTES
            np.testing.assert_array_equal(faces.attributes, LABELS[name][rows])
            np.testing.assert_array_equal(faces.people, people)

    @pytest.mark.parametrize("name", FACES)
    def test_same_from_archive(self, data, tmp_path, name):
        folder = write(name, data)
        faces = load_faces(name, "mobilenet_v2", tmp_path / "one")
        pack(folder)
        assert_same(faces, load_faces(name, "mobilenet_v2", tmp_path / "two"))

    @pytest.mark.parametrize(
        ("name", "backbone", "size"), [("celeba", "resnet18", 64), ("lfw", "mobilenet_v2", 96)]
    )
    def test_same_from_small_copy(self, data, tmp_path, name, backbone, size):
        folder = write(name, data)
        faces = load_faces(name, backbone, tmp_path / "one")
        write_copy(name, folder, data, size)
        shutil.rmtree(folder)  # so what follows is of the copy
        assert_same(faces, load_faces(name, backbone, tmp_path / "two"))

    def test_small_copy_goes_first(self, data, tmp_path):
        folder = write("celeba", data)
        write_copy("celeba", folder, data, 64)
        for path in folder.iterdir():
            path.write_bytes(b"broken")
        assert len(load_faces("celeba", "resnet18", tmp_path / "cache").Z) == 3

    def test_either_slash(self, data, tmp_path):
        write("lfw", data)
        faces = load_faces("lfw", "resnet18", tmp_path / "one")
        write_mat(data / "lfw" / "lfw_att_40.mat", LABELS["lfw"], slash="/")
        assert_same(faces, load_faces("lfw", "resnet18", tmp_path / "two"))

    def test_matlab_7_3(self, data, tmp_path):
        h5py = pytest.importorskip("h5py")
        write("lfw", data)
        faces = load_faces("lfw", "resnet18", tmp_path / "one")
        path = data / "lfw" / "lfw_att_40.mat"
        with h5py.File(path, "w", userblock_size=512) as content:
            content["label"] = LABELS["lfw"].T.astype(float)
            texts = {
                "name": [f"{person}\\{image}" for image, person in PEOPLE.items()],
                "AttrName": [name.replace("_", " ") for name in ATTRIBUTES],
            }
            for key, given in texts.items():
                cell = content.create_dataset(key, (1, len(given)), h5py.ref_dtype)
                for i, text in enumerate(given):
                    letters = np.array([[ord(letter)] for letter in text], dtype=np.uint16)
                    cell[0, i] = content.create_dataset(f"#refs#/{key}{i}", data=letters).ref
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
        assert_same(faces, load_faces("lfw", "resnet18", tmp_path / "two"))

    def test_matlab_7_3_without_h5py(self, data, tmp_path, monkeypatch):
        write("lfw", data)
        path = data / "lfw" / "lfw_att_40.mat"
        path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ImportError, match="pip install h5py"):
            load_faces("lfw", "resnet18", tmp_path / "cache")


class TestFeatures:
    @pytest.mark.parametrize(
        ("file", "size", "n_outputs"),
        [("resnet18_celeba64_attributes.pth", 64, 35), ("resnet18-f37072fd.pth", 128, 1000)],
    )
    def test_head_on_them_is_the_resnet(self, data, weights, tmp_path, file, size, n_outputs):
        write("celeba", data)
        (data / "weights" / "resnet18_celeba64_attributes.pth").unlink()
        os.link(weights / file, data / "weights" / file)
        faces = load_faces("celeba", "resnet18", tmp_path / "cache")
        assert faces.weights == file
        head = backbone_head("resnet18")
        assert head.weight.shape == (n_outputs, 512)
        model, wanted = load_resnet18(weights / file)
        assert wanted["size"] == size
        self.compare(data, faces, head, model, size)

    def test_head_on_them_is_the_mobilenet(self, data, weights, tmp_path):
        write("celeba", data)
        faces = load_faces("celeba", "mobilenet_v2", tmp_path / "cache")
        head = backbone_head("mobilenet_v2")
        assert head.weight.shape == (1000, 1280)
        model = load_mobilenet_v2(weights / "mobilenet_v2-b0353104.pth")
        self.compare(data, faces, head, model, 64)

    def compare(self, data, faces, head, model, size):
        boxes = [
            Image.open(data / "celeba" / "img_align_celeba" / image).crop(BOXES["celeba"])
            for image in ("000002.jpg", "000003.jpg", "000005.jpg")
        ]
        with torch.no_grad():
            logits = model(ImageFiles(size)(boxes))
            again = head(torch.from_numpy(faces.Z))
        spread = float(logits.std(0).max())
        assert spread > 0  # the images do differ
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-3 * spread)

    @pytest.mark.parametrize("name", FACES)
    def test_box(self, tmp_path, name):
        width, height = SIZES[name]
        y, x = np.mgrid[:height, :width].astype(np.uint8)
        Image.fromarray(np.stack([x, y, 0 * x], axis=2)).save(tmp_path / "where.png")
        left, top, right, bottom = BOXES[name]
        crop = Crop(ImageFiles(right - left, mean=None, std=None), *FACES[name][-1].crop)
        (where,) = (pickle.loads(pickle.dumps(crop))([tmp_path / "where.png"]) * 255).round()
        assert (where[0] == torch.arange(left, right)).all()
        assert (where[1] == torch.arange(top, bottom)[:, None]).all()

    def test_box_of_other_images(self, data, tmp_path):
        folder = write("celeba", data)
        Image.new("RGB", (64, 64)).save(folder / "000003.jpg")
        with pytest.raises(ValueError, match=r"64 x 64 pixels; expected 178 x 218"):
            load_faces("celeba", "resnet18", tmp_path / "cache")


class TestCache:
    def test_needs_no_images(self, data, tmp_path, monkeypatch):
        write("celeba", data)
        faces = load_faces("celeba", "resnet18", tmp_path / "cache")
        shutil.rmtree(data / "celeba")
        assert_same(faces, load_faces("celeba", "resnet18", tmp_path / "cache"))
        monkeypatch.delenv("SKFAIRFT_DATA")
        assert_same(faces, load_faces("celeba", "resnet18", tmp_path / "cache"))
        assert [path.name for path in (tmp_path / "cache").iterdir()] == ["celeba-resnet18.npz"]

    def test_of_other_weights(self, data, weights, tmp_path):
        write("celeba", data)
        load_faces("celeba", "resnet18", tmp_path / "cache")
        (data / "weights" / "resnet18_celeba64_attributes.pth").unlink()
        os.link(weights / "resnet18-f37072fd.pth", data / "weights" / "resnet18-f37072fd.pth")
        with pytest.raises(ValueError, match=r"celeba64_attributes\.pth, but resnet18-f37072fd"):
            load_faces("celeba", "resnet18", tmp_path / "cache")


def lacking(name, backbone):
    """Return what `missing` names, and check that it says where to get each."""
    head, _, items = missing(name, backbone).partition(": ")
    assert head == "not in SKFAIRFT_DATA"
    pairs = [item.removesuffix(")").split(" (", 1) for item in items.split("; ")]
    assert all(source for _, source in pairs)
    return [names for names, _ in pairs]


class TestMissing:
    @pytest.mark.parametrize("backbone", BACKBONES)
    @pytest.mark.parametrize("name", FACES)
    def test_one_by_one(self, data, tmp_path, name, backbone):
        for path in (data / "weights").iterdir():
            path.rename(tmp_path / path.name)
        assert lacking(name, backbone) == [*ORIGINALS[name], WEIGHTS[backbone]]
        with pytest.raises(FileNotFoundError, match="not in SKFAIRFT_DATA: weights/"):
            backbone_head(backbone)
        write(name, data)
        assert lacking(name, backbone) == [WEIGHTS[backbone]]
        for path in tmp_path.glob("*.pth"):
            path.rename(data / "weights" / path.name)
        assert missing(name, backbone) is None
        for need in ORIGINALS[name]:
            path = data / need.split(" or ")[0]
            path.rename(tmp_path / "aside")
            assert lacking(name, backbone) == [need]
            with pytest.raises(FileNotFoundError, match=need.split(" or ")[0]):
                load_faces(name, backbone, tmp_path / "cache")
            (tmp_path / "aside").rename(path)

    @pytest.mark.parametrize("name", FACES)
    def test_small_copy(self, data, tmp_path, name):
        folder = write(name, tmp_path)
        write_copy(name, folder, data, 64)
        assert missing(name, "resnet18") is None
        for need in COPIES[name]:
            (data / need).rename(tmp_path / "aside")
            assert lacking(name, "resnet18") == [need]
            (tmp_path / "aside").rename(data / need)
        (data / COPIES[name][0]).unlink()
        write(name, data)
        assert missing(name, "resnet18") is None  # the originals are complete

    def test_no_folder(self, tmp_path, monkeypatch):
        monkeypatch.delenv("SKFAIRFT_DATA", raising=False)
        assert missing("lfw", "resnet18").startswith("set SKFAIRFT_DATA")
        with pytest.raises(FileNotFoundError, match="set SKFAIRFT_DATA"):
            load_faces("lfw", "resnet18", tmp_path)


class TestContradictions:
    """Files that are cut short or do not belong together: nothing is extracted or stored."""

    def refuse(self, name, tmp_path, match):
        with pytest.raises(ValueError, match=match):
            load_faces(name, "resnet18", tmp_path / "cache")
        assert not list((tmp_path / "cache").glob("*"))

    def test_fewer_rows_than_announced(self, data, tmp_path):
        write("celeba", data)
        path = data / "celeba" / "list_attr_celeba.txt"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        self.refuse("celeba", tmp_path, "announces 5 images, but lists 4")

    def test_short_row(self, data, tmp_path):
        write("celeba", data)
        path = data / "celeba" / "list_attr_celeba.txt"
        path.write_text(path.read_text()[:-10])
        self.refuse("celeba", tmp_path, r"list_attr_celeba\.txt .*cannot be read")

    def test_fewer_identities(self, data, tmp_path):
        write("celeba", data)
        path = data / "celeba" / "identity_CelebA.txt"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        self.refuse("celeba", tmp_path, r"lists 5 images and identity_CelebA\.txt 4")

    @pytest.mark.parametrize(
        ("name", "image"), [("celeba", "000005.jpg"), ("lfw", "AJ_Cook_0001.jpg")]
    )
    def test_fewer_images(self, data, tmp_path, name, image):
        folder = write(name, data)
        next(folder.rglob(image)).unlink()
        self.refuse(name, tmp_path, f"no image for 1, such as {image}")

    def test_fewer_labels(self, data, tmp_path):
        write("lfw", data)
        write_mat(data / "lfw" / "lfw_att_40.mat", LABELS["lfw"][:-1])
        self.refuse("lfw", tmp_path, r"label is \(3, 40\) for 4 images")

    def test_other_values(self, data, tmp_path):
        write("lfw", data)
        write_mat(data / "lfw" / "lfw_att_40.mat", LABELS["lfw"] - (np.arange(40) == 1))
        self.refuse("lfw", tmp_path, r"other values than two in \['Heavy_Makeup'\]")

    def test_fewer_rows_of_small_copy(self, data, tmp_path):
        write_copy("lfw", write("lfw", tmp_path), data, 96)
        path = data / "lfw" / "attributes.csv.gz"
        pd.read_csv(path)[:-1].to_csv(path, index=False)
        self.refuse("lfw", tmp_path, r"no attributes for 1, such as Zoe_Ball_0001\.jpg")
        path.write_bytes(path.read_bytes()[:-40])
        self.refuse("lfw", tmp_path, r"attributes\.csv\.gz cannot be read")

    def test_image_listed_twice(self, data, tmp_path):
        write_copy("lfw", write("lfw", tmp_path), data, 96)
        path = data / "lfw" / "attributes.csv.gz"
        table = pd.read_csv(path)
        pd.concat([table, table[:1]]).to_csv(path, index=False)
        self.refuse("lfw", tmp_path, r"lists images twice, such as AJ_Cook_0001\.jpg")
