"""What the report says besides figures: nothing here depends on what was measured."""

from __future__ import annotations

HEAD = """# The paper's evaluation, rerun

Zhang and Zhou, *Bias Mitigation in Fine-tuning Pre-trained Models for Enhanced Fairness and
Efficiency* ([arXiv:2403.00625](https://arxiv.org/abs/2403.00625)), claim by claim. In short:
[what follows](#what-follows). All of this page and of [its tables](reproduction_tables.md), text
and figures, is made by `make reproduce` from [reproduction.json](reproduction.json).
"""

HEAD_OF_TABLES = """# The paper's evaluation, rerun: tables

How it was measured, each claim with the figures of both sides, all tables and figures, and all
comparisons. What came out in short is in [the text](reproduction.md).
"""

OUTCOMES = """The method was compared with plain retraining (TL) and with a plain SVD of the same
rank (f+SVD) in {n} cases, in and beyond the paper's protocol: it **helps in {helps}** (in {could}
the error was shown to be equal, as help requires), lowers bias without showing equal error in
{costs}, hurts in {hurts}, is mixed in {mixed}, and makes no difference that {seeds} seeds can show
in {no_difference}"""

# Of the page that is read, under its verdicts.
WORDS = """TL trains the full layer on the new task. f+SVD cuts it to a low rank by a plain SVD, and
trains the factors. The method, "paper" in the tables, weights that SVD by what matters to all
groups alike. f_B is a network that was pre-trained as usual, f_F one with a penalty on bias. Err is
100 less weighted F1, in percent; ΔDP is the difference of the groups' rates of positive
predictions, ΔEO the sum of their differences in true and in false positive rate. All are means of
{seeds} seeds, ± their standard deviation; "surely" and brackets are 95 % intervals of differences,
seed by seed ([how it was measured](reproduction_tables.md#how-it-was-measured)).
"""

BEYOND = """Does the method help with more classes or groups, with few rows, trained briefly, with
importance measured otherwise? What is help was settled before the run: ΔDP lower by at least {DDP}
or ΔEO by {DEO}, significantly after an adjustment for all comparisons, while Err is shown to be
equal (its interval ends at +{error} points or below). "Could have helped" are those of equal Err,
of heads that differ. The last rows are other forms of the method, beside their own TL and f+SVD.
"""

BEYOND_SEEN = """"No difference" is not equality: with {seeds} seeds and so many comparisons only
large effects show."""

BEYOND_VISIBLE = """In the {could} that could have helped, ΔDP would have had to be lower by {DDP},
or ΔEO by {DEO}, to be seen (medians)."""

MEASURED = """## How it was measured

- {seeds} seeds; each draws its own split and, for Adult, pre-trains its own networks. "±" is the
  standard deviation over the seeds. "a (b to c)" is the mean of a paired difference, seed by seed,
  with its 95 % interval (Student's; the splits overlap, so it is a little too narrow).
- Err is 100 less weighted F1, in percent. ΔDP is the difference between the groups' rates of
  positive predictions, ΔEO the sum of their differences in true and in false positive rate; of
  several groups the largest difference, of several classes the largest over the classes.
- Test rows judge only. C, the strength of the L2 penalty, is chosen for TL on the validation rows
  and used for all systems of that task and seed.
- The rules of the verdicts (`benchmarks/paper/claims.py`) and what counts as help
  (`benchmarks/paper/neutralization.py`) were committed before the seeds ran; mends of details since
  then changed no verdict. A claim about a trend (more with more of something) compares means, all
  others compare intervals.
- Linear heads are trained to their optimum (L-BFGS). Layers with an output layer behind them:
  AdamW, a tenth of the training rows held out to stop by.
- Training is in standardized features and with factors that are equally large, unless a system is
  called "as written": then the optimizer moves Eq. 4's very factors A and B, where A has all of the
  scale, in the features as they are, as Algorithm 1 has it. The loss is the same function of the
  head; the way that an optimizer takes is not.
- {fits}
- {cores} cores, no GPU; Python {python}, {versions}.
  {duration}
"""

# What each section says before its tables.
INTROS = {
    "table1": """
Means over the seeds. The least cell is the number of test rows of the rarest combination of label
and group: rates of it are coarse, above all on LFW, where it is men with heavy makeup.
""",
    "figure1": """
The network is frozen, so fine-tuning leaves the representation as pre-training made it; it changes
the head, and so which rows are predicted as positive. The table has the AUC with which a linear
probe tells women from men (0.5: not at all) and the measures of the fine-tuned head (TL).
""",
    "figure3": """
Agreement of the two groups' importances I_g = √F_g over the features: at 1 they are parallel, and
then their neutralized mean weights the SVD as either of them would. The control shuffles the
groups. "Fitted on each group" is the other reading of the paper's text: each head is trained on one
group's rows. [What comes of it](#the-other-reading-heads-of-each-group).
""",
    "figure4": """
Rank 1 for last layers, where every rank can represent every two-class head; rank 2 for layers with
an output layer behind them.
""",
    "table2": """
f_F is trained on the loss plus intensity times the absolute covariance of group and score, in
standardized units (for equalized odds within each label). The paper does not say how the intensity
enters; of eight readings, this one came closest to its ladder on held-out pre-training rows without
collapsing to a constant (`benchmarks/paper/pretrain.py`). All on the new task's test rows. Last
column: the paper's Err and bias, pre-trained → fine-tuned.
""",
    "table3": """
Retrain adds intensity times the distance, with probabilities in place of predictions, to the loss:
of the head alone, from the pre-trained one, or of the whole network. Ours are held to the
constraint with a weight, at the lowest rank that serves them, and with the thresholds that they
come with. For the head alone the distance is rounded off where the rates are equal, or L-BFGS would
stop there, short of the optimum (`benchmarks/paper/smooth.py`).
The first figure sets the whole network (dotted) beside heads on its ten frozen features.
On the faces the whole network was not retrained: without a GPU that would take many hours.
""",
    "weights": """
The weight is that of the second group (women; men on CelebA); the other group has the rest. 0.5 is
the paper's.
""",
    "ranks": """
Parameters are all that are trained, biases and a new output layer included. Seconds are those of
the whole fit, one thread each: first head, Fisher pass, SVD and training. TL, the full layer
without factors, pays for the Fisher pass too, because the estimator always reports it.
""",
    "many": """
"Proportional" weights the groups by size, as a Fisher information that knows no groups would. The
accuracy gap is the largest difference between groups, in percentage points. The synthetic task is
made to suit neutralization: each group has features of its own, and one group is small. ΔEO of
occupations is a maximum over 14 classes, some of them rare, and so is noisy.
""",
    "few": """
C is chosen anew for each number of rows, on the validation rows.
""",
    "budget": """
Epochs of AdamW at a learning rate of 0.001; 0 is the factorization untouched. The last six columns
are the paper's method minus TL and minus f+SVD, bold where the 95 % interval excludes 0. Whatever
is undertrained can look fair, so differences in bias mean nothing without those in Err.
The second table has the same steps as the paper writes them: on the very factors, in the features
as they are. There TL, f+SVD and the method are all trained so. Their start, at 0 epochs, is that of
the first table, and no end of training was run.
""",
    "reading": """
Section 3.3 can be read in another way: each group's importance is that of a head which is trained
on its rows alone. Here all systems are cut from one head that is fitted on the features of all
rows, TL too; a pre-trained last layer is left aside. Where an output layer follows the layer that
is cut, this reading does not apply, nor to the occupations, some of which have no woman.
With two classes the fitted head has rank one, which any cut keeps, whatever its weights, so there
the start and the end of training are run only. The columns are those of the training budget, for
the method with importance from a head of each group.
""",
    "fisher": """
Importance measured at the pre-trained layer or at the one that TL has fitted; with the labels
(empirical, the paper's) or with their expectation under the head's own probabilities (true). The
layer that is cut is the pre-trained one each time (the fitted one where there is none). The last
four columns are the paper's method with that importance minus f+SVD of the same rank.
""",
}

HELP = """
Settled before the run: beside a reference, the paper's method helps if its ΔDP is lower by at least
{DDP} or its ΔEO by {DEO} in the mean, significantly (one-sided paired t-test, 5 %, adjusted by Holm
for both measures of all comparisons), while the 95 % interval of Err stays at or below
+{error} points. "Less bias, not equal Err" is the same but for that. The comparisons of different
experiments overlap; f+SVD has the same rank and knows no importance, TL has the full layer.
"""

FORMS = {
    "as written": """
The same rule, settled before these ten seeds ran: Algorithm 1's steps on the very factors,
beside TL and f+SVD after as many of the same steps. The p-values are adjusted among these
comparisons.
""",
    "heads by group": """
The same rule, settled before these ten seeds ran: the importance is that of a head for each
group, fitted on its rows alone; beside TL and f+SVD from the same fitted head. The p-values are
adjusted among these comparisons.
""",
}

FORM_POWER = """- **Could it have helped?** In {same} of the {n} the two heads have the same
  measures in all seeds. Equal error is shown in {could} of the others, so that less bias would
  have been help; in {worse} Err is higher by more than {error} points beyond doubt.
{visible}- **Each test by itself**, one-sided at 5 %: {unadjusted}.
"""

POWER = """With ten seeds and so many comparisons only large effects show: "no difference" is not
equality.

- **Could it have helped?** In {same} of the {n} the two heads have the same measures in all seeds.
  Of the other {others}, {could} show equal error with these seeds: they meet that half of the rule,
  so that less bias would have been help. In {worse} Err is higher by more than {error} points
  beyond doubt; in {open} it is open, and more seeds might show either.
{visible}{control}- **Each test by itself**, one-sided at 5 %: {unadjusted}.
  Chance is 5 % of the tests, without those of a measure that is the same in all seeds: it is
  neither lower nor higher.
"""

VISIBLE = """- **How much less bias would have been seen?** To be significant after the adjustment,
  in the {could} of equal error, ΔDP would have had to be lower by {DDP} in the mean, or ΔEO
  by {DEO} (medians; in the worst tenth by {most_DDP} and {most_DEO} or more). The {least_DDP} and
  {least_DEO} that help requires at least would have been significant in {enough_DDP} and
  {enough_DEO} of them. Where the true difference is just as large as would be significant there,
  ten seeds find it about half the time.
"""

CONTROL = """- **What does the rule say where bias is known to fall?** Of the {n} systems with a
  constraint of Table 3, beside TL, {less} have less bias by this rule ({mixed} of them more in the
  other measure), equal error is shown in {equal}, and help in {helps}{which}.
"""

FOOT = """## Not rerun

- The paper's checkpoints, splits and training settings are not published, and its ResNet-18 and
  CelebA are not those at hand (`benchmarks/paper/tasks.py` says what is). A claim that is not
  reproduced here may hold in a setting that the paper does not describe.
- The figures of its Table 3 and of its ablation were not in the text at hand: only the claims about
  them are judged.
- Whole networks of vision were not retrained.

## Run it

```sh
make reproduce                               # everything; resumes where it was interrupted
python benchmarks/paper table2 report        # one experiment, and the pages
python benchmarks/paper report               # the pages alone, from what is stored
python benchmarks/paper --quick              # two seeds, 500 rows, 1,000 images
```

Adult is part of the package. LFW, CelebA and the backbones' weights lie in the folder that
`SKFAIRFT_DATA` names; what is missing is left out, and the run says what it is and where to get it.
"""
