"""``report.html``: what a training run learned, in one file that needs nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from string import Template

from gpt2dsl.engine import pictures
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.scores import Scores
from gpt2dsl.engine.showcase import Showcase
from gpt2dsl.identity.identity import Identity

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 52rem; padding: 0 1rem;
       color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.35 }
svg { width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: left }
.identity td { font: .82rem/1.35 ui-monospace, monospace; overflow-wrap: anywhere }
.passage { font: 15px/1.7 ui-monospace, monospace; white-space: pre-wrap;
           overflow-wrap: anywhere; border: 1px solid #ddd; padding: .6rem; margin: .3rem 0 1rem }
.said { background: #eaf3ea }
small { color: #666 }
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")


def training_report(
    job: Job,
    result: Result,
    metrics: Sequence[dict[str, float]],
    before: Showcase | None,
    after: Showcase | None,
) -> str:
    """The page.

    Args:
        job: what ran.
        result: what it gave.
        metrics: the lines of metrics.jsonl.
        before: what the model made of held-out text before training, if there was any.
        after: the same after training.
    """
    training = [(int(m["step"]), m["loss"]) for m in metrics if "loss" in m]
    held_out = [(int(m["step"]), m["eval_loss"]) for m in metrics if "eval_loss" in m]
    sections = [_section("Result", f"<pre>{html.escape(str(result))}</pre>")]
    sections.append(_section("Loss", pictures.loss_curve(training, held_out)))
    if before and after:
        sections.append(_section("What it learned: a held-out passage", _passage(before, after)))
        sections.append(_section("What it writes", _samples(before, after)))
    if isinstance(result.scores, Scores):
        sections.append(_section("Classes that were said", _confusion(result.scores)))
    for key, label in (
        ("tokens_per_second", "tokens/s"),
        ("lr", "learning rate"),
        ("gradient_norm", "gradient norm"),
    ):
        points = [(int(m["step"]), m[key]) for m in metrics if key in m]
        sections.append(_section(label.capitalize(), pictures.curve(points, label)))
    for heading, text in (("Plan", job.plan_text), ("Recipe", job.documents["recipe.toml"])):
        sections.append(_section(heading, f"<pre>{html.escape(text)}</pre>"))
    sections.append(_section("Identity: what decides the result", _identity(job.identity)))
    return _PAGE.substitute(title=html.escape(job.name), body="\n".join(sections))


def _confusion(scores: Scores) -> str:
    """A table of the true classes by those that were said, the darker the more of its row."""
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
    return f"<table><tr><th>true \\ said</th>{head}</tr>{rows}</table>"


def _identity(identity: Identity) -> str:
    """Return a table of the entries of an identity, as ``plan --why`` lists them."""
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(words)}</td></tr>"
        for key, words in identity.rows()
    )
    return f'<table class="identity">{rows}</table>'


def _section(heading: str, body: str) -> str:
    return f"<h2>{heading}</h2>\n{body}"


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
    """Continuations; a part of the run under a layout that generates nothing has none."""
    both = {
        label: dict(zip(shown.prompts, shown.continuations, strict=True))
        for label, shown in (("Before", before), ("After", after))
    }
    return "".join(
        f'<p>{label}:</p><div class="passage">{html.escape(prompt)}'
        f'<span class="said">{html.escape(written[prompt])}</span></div>'
        for prompt in dict.fromkeys((*before.prompts, *after.prompts))
        for label, written in both.items()
        if prompt in written
    )
