"""``report.html``: the results of a training run in one self-contained file."""

from __future__ import annotations

import html
import math
import resource
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from gpt2dsl.engine import pictures
from gpt2dsl.engine.clock import Clock
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.page import ends, figures, page, pre, section, switch
from gpt2dsl.engine.pictures import Curve
from gpt2dsl.engine.rundir import Attempt
from gpt2dsl.engine.scores import ClassificationMetrics
from gpt2dsl.engine.showcase import Showcase
from gpt2dsl.identity.identity import Identity

Metrics = Sequence[Mapping[str, float]]


def training_report(
    job: Job,
    result: Result,
    metrics: Metrics,
    before: Showcase | None,
    after: Showcase | None,
    *,
    clock: Clock,
    attempts: Sequence[Attempt],
    tokens: int,
) -> str:
    """Return the report of a training run as HTML.

    Args:
        job: the job.
        result: its result.
        metrics: the lines of metrics.jsonl.
        before: held-out losses and samples before training, if there is held-out text.
        after: the same after training.
        clock: how this process spent its time.
        attempts: processes that trained in this run, in order.
        tokens: tokens of a step, the unit of ``tokens_per_second``.
    """
    spent = _seconds(metrics, tokens)
    body = [_summary(job, result, spent), _commands(result)]
    body.append(section("Loss", _loss(metrics, tokens, spent, attempts)))
    if before and after:
        body.append(section("What it learned: a held-out passage", _passage(before, after)))
        body.append(section("What it writes", _samples(before, after)))
    if isinstance(result.scores, ClassificationMetrics):
        body.append(section("Classes that were said", _confusion(result.scores)))
    body.append(section("Where the time went", _system(clock, attempts)))
    steps = [line for line in metrics if "loss" in line]
    charts = []
    for key, label in (
        ("tokens_per_second", "tokens/s"),
        ("lr", "learning rate"),
        ("gradient_norm", "gradient norm"),
    ):
        points = [line for line in steps if key in line]
        line = Curve("", [point["step"] for point in points], [point[key] for point in points])
        chart = pictures.curves([line], "step", label, height=2.6, bottom=True)
        charts.append(section(label.capitalize(), chart))
    body.append(f'<div class="pair">{"".join(charts)}</div>')
    body += [section("Result", pre(str(result))), section("Plan", pre(job.plan_text))]
    body.append(section("Recipe", pre(job.documents["recipe.toml"])))
    body.append(section("Identity: what decides the result", _identity(job.identity)))
    return page(job.name, "\n".join(body))


def _summary(job: Job, result: Result, spent: Sequence[float]) -> str:
    """Return the outcome as a sentence and as tiles."""
    if result.perplexity is not None and result.perplexity_before is not None:
        subject = "The perplexity of held-out text"
        what = _moved(subject, result.perplexity_before, result.perplexity, ",.2f")
    elif result.loss is not None and result.loss_before is not None:
        what = _moved("The held-out loss", result.loss_before, result.loss, ".4f")
    elif result.loss is not None:
        what = f"The loss of the last training steps is {result.loss:.4f}"
    else:
        what = "Nothing was left to train"
    taken = timedelta(seconds=round(spent[-1])) if spent else timedelta()
    early = f" of {job.steps:,}, stopped early" if result.stopped_early else ""
    tiles = {}
    if result.loss is not None:
        name = "loss per token, nats" if result.perplexity is not None else "loss"
        tiles[name] = _change(result.loss_before, result.loss, ".3f")
    if result.perplexity is not None:
        tiles["perplexity"] = _change(result.perplexity_before, result.perplexity, ",.1f")
    if isinstance(result.scores, ClassificationMetrics):
        tiles["accuracy"] = f"{result.scores.accuracy:.2%}"
    tiles[f"steps{early}"] = f"{result.steps:,}"
    tiles["time in steps"] = str(taken)
    if result.tokens_per_second:
        tiles["tokens/s"] = f"{result.tokens_per_second:,.0f}"
    if result.mfu:
        tiles["of peak FLOP/s (MFU)"] = f"{result.mfu:.0%}"
    sentence = f"{what} in {result.steps:,} steps{early}, {taken} of training."
    return f"<p>{html.escape(sentence)}</p>{figures(tiles)}"


def _moved(subject: str, before: float, after: float, form: str) -> str:
    """Return a sentence on how a figure changed."""
    first, last = format(before, form), format(after, form)
    if first == last:
        return f"{subject} stayed at {last}"
    return f"{subject} {'fell' if after < before else 'rose'} from {first} to {last}"


def _change(before: float | None, after: float, form: str) -> str:
    now = format(after, form)
    return now if before is None else f"{format(before, form)} → {now}"


def _commands(result: Result) -> str:
    """Return where the weights are, with commands that use them."""
    weights = str(result.best or result.checkpoint)
    name = shlex.quote(weights)
    use = "classify" if result.scores else "generate"
    text = "--text" if result.scores else "--prompt"
    lines = [f'gpt2dsl {use} {name} {text} "..."', f"gpt2dsl inspect {name}"]
    if not result.scores:
        lines.insert(1, f"gpt2dsl serve {name}")
    lines.append(f"lm = gpt2dsl.load({weights!r})  # in Python")
    kind = "best" if result.best else "last"
    where = f"The weights of the {kind} checkpoint are in <code>{html.escape(weights)}</code>:"
    return section("Use it", f"<p>{where}</p>" + pre("\n".join(lines), "commands"))


def _seconds(metrics: Metrics, tokens: int) -> list[float]:
    """Return the elapsed training time at the end of each logged step."""
    steps = (line for line in metrics if "tokens_per_second" in line)
    return list(accumulate(tokens / line["tokens_per_second"] for line in steps))


def _loss(
    metrics: Metrics, tokens: int, spent: Sequence[float], attempts: Sequence[Attempt] = ()
) -> str:
    """Return the loss curve over steps, tokens and time."""
    steps = [line for line in metrics if "loss" in line]
    held_out = [line for line in metrics if "eval_loss" in line]
    numbers = [line["step"] for line in steps]
    at = dict(zip(numbers, spent, strict=False))
    axes = {
        "steps": {number: number for number in (0, *numbers)},
        "tokens": {number: number * tokens for number in (0, *numbers)},
        "minutes": {0: 0.0} | {number: second / 60 for number, second in at.items()},
    }
    drawn, joints = {}, _joints(attempts)
    losses = [line["loss"] for line in steps]
    for name, place in axes.items():
        x = [place[number] for number in numbers if number in place]
        lines = [
            Curve("training batch", x, losses[: len(x)], "pale"),
            Curve("training, smoothed", x, pictures.smooth(losses)[: len(x)]),
        ]
        logged = [line for line in held_out if line["step"] in place]
        if logged:
            where = [place[line["step"]] for line in logged]
            lines.append(
                Curve("held out", where, [row["eval_loss"] for row in logged], "other", True)
            )
        marks = "went on after a stop", [place[step] for step in joints if step in place]
        drawn[f"over {name}"] = pictures.curves(lines, name, "loss, nats", marks=marks)
    return switch("loss", drawn) + _evaluations(held_out)


def _joints(attempts: Sequence[Attempt]) -> list[int]:
    """Return the steps at which the curve continues from another process."""
    joints: list[int] = []
    for attempt in reversed(attempts):  # steps that a later process repeated are not on the curve
        if attempt.reached and 0 < attempt.step < min(joints, default=math.inf):
            joints.append(attempt.step)
    return joints[::-1]


def _evaluations(held_out: Metrics) -> str:
    """Return a table of the evaluations, shortened if there are many."""
    if not held_out:
        return ""
    shown = ends(held_out)
    names = [key for key in shown[-1] if key.startswith("eval_") and key != "eval_tokens"]
    head = "".join(f"<th>{html.escape(name[5:])}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{line['step']:,}</td>"
        + "".join(f"<td>{line[name]:,.4f}</td>" if name in line else "<td></td>" for name in names)
        + "</tr>"
        for line in shown
    )
    return f'<div class="scroll"><table><tr><th>step</th>{head}</tr>{rows}</table></div>'


def _system(clock: Clock, attempts: Sequence[Attempt]) -> str:
    """Return how this process spent its time, its peak memory and earlier restarts."""
    known = sum(clock.seconds.values())
    total = max(clock.total, known, 1e-9)
    spent = {**clock.seconds, "everything else": total - known}
    rows = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{seconds:,.1f} s</td>"
        f"<td>{seconds / total:.0%}</td></tr>"
        for what, seconds in spent.items()
    )
    # ru_maxrss is in kilobytes, on macOS in bytes
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    memory = f"Peak memory of the process: {peak / 1e9:.2f} GB."
    if not clock.seconds.get("computing steps"):
        memory = f"The process that wrote this page had nothing left to train. {memory}"
    return f"{_restarts(attempts)}<p>{memory}</p><table>{rows}</table>"


def _restarts(attempts: Sequence[Attempt]) -> str:
    """Return a sentence and a table on when a run started and resumed; "" if it never stopped."""
    restarts = [attempt for attempt in attempts if attempt.reached is not None]
    if not restarts:
        return ""
    times = "once" if len(restarts) == 1 else f"{len(restarts):,} times"
    lost = sum(attempt.again for attempt in restarts)
    again = f"{lost or 'no'} step{' was' if lost < 2 else 's were'} done again"
    words = (
        f"The run was stopped and went on {times}; {again}. "
        "The times below are those of the last process."
    )
    is_relaid = len({attempt.layout for attempt in attempts if attempt.layout}) > 1
    rows = "".join(
        f"<tr><td>{_when(attempt.time)}</td><td>{_what(attempt)}</td>"
        + (f"<td>{attempt.layout or 'layout not noted'}</td></tr>" if is_relaid else "</tr>")
        for attempt in ends(attempts)
    )
    return f'<p>{words}</p><div class="scroll"><table>{rows}</table></div>'


def _what(attempt: Attempt) -> str:
    """Return how a process began or resumed training."""
    if attempt.reached is None:
        return f"began at step {attempt.step:,}" if attempt.step else "began"
    where = f"went on from step {attempt.step:,}" if attempt.step else "began again"
    if attempt.again > 1:
        return f"{where}; steps {attempt.step + 1:,} to {attempt.reached:,} were done again"
    return f"{where}; step {attempt.reached:,} was done again" if attempt.again else where


def _when(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M} UTC"


def _confusion(scores: ClassificationMetrics) -> str:
    """Return the confusion matrix as a table, cells shaded by their share of the row."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in scores.names)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(
            f'<td style="background:rgba(46,134,193,{count / max(1, sum(row)) * 0.7:.2f})">'
            f"{count:,}</td>"
            for count in row
        )
        + "</tr>"
        for name, row in zip(scores.names, scores.confusion, strict=True)
    )
    return f'<div class="scroll"><table><tr><th>true \\ said</th>{head}</tr>{rows}</table></div>'


def _identity(identity: Identity) -> str:
    """Return a table of identity entries, as ``plan --why`` lists them."""
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(words)}</td></tr>"
        for key, words in identity.rows()
    )
    return f'<table class="identity">{rows}</table>'


def _passage(before: Showcase, after: Showcase) -> str:
    key = (
        "<small>The redder a token, the less the model expected it; hover for its probability."
        "</small>"
    )
    passages = "".join(
        f"<p>{label}: {sum(shown.losses) / len(shown.losses):.2f} nats per token</p>"
        f'<div class="passage">{_coloured(shown.tokens, shown.losses)}</div>'
        for label, shown in (("Before", before), ("After", after))
    )
    return key + passages


def _coloured(tokens: Sequence[str], losses: Sequence[float]) -> str:
    return "".join(
        f'<span style="background:rgba(192,57,43,{min(loss / 10, 1) * 0.7:.2f})" '
        f'title="probability {math.exp(-loss):.2g}">{html.escape(token)}</span>'
        for token, loss in zip(tokens, losses, strict=True)
    )


def _samples(before: Showcase, after: Showcase) -> str:
    """Return continuations before and after; layouts that can't generate have none."""
    showcases = {
        label: dict(zip(shown.prompts, shown.continuations, strict=True))
        for label, shown in (("Before", before), ("After", after))
    }
    return "".join(
        f'<p>{label}:</p><div class="passage">{html.escape(prompt)}'
        f'<span class="said">{_told(continuations[prompt])}</span></div>'
        for prompt in dict.fromkeys((*before.prompts, *after.prompts))
        for label, continuations in showcases.items()
        if prompt in continuations
    )


def _told(text: str) -> str:
    """Return a continuation, or a note if it would be invisible."""
    if text.strip():
        return html.escape(text)
    words = f"only blanks, {len(text)} of them" if text else "nothing: it ends the text at once"
    return f"<small>({html.escape(words)})</small>"
