"""The tasks pretrain and finetune: steps, evaluations, checkpoints, and a report at the end."""

from __future__ import annotations

import json
import math
import time
from functools import cached_property
from pathlib import Path
from statistics import median

from gpt2dsl.data.examples import Examples
from gpt2dsl.data.form import Form
from gpt2dsl.data.order import rows_of as rows_of_step
from gpt2dsl.data.rows import Rows
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine import checkpoints
from gpt2dsl.engine.checkpoints import Identity
from gpt2dsl.engine.classifier import TextClassifier
from gpt2dsl.engine.evaluate import examples_of, mean_loss, perplexity, rows_of
from gpt2dsl.engine.interrupt import StopRequest
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.language_model import LanguageModel, loaded, network_of
from gpt2dsl.engine.progress import Bar, say, saying
from gpt2dsl.engine.report import training_report
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.engine.schedule import learning_rate
from gpt2dsl.engine.scores import Scores
from gpt2dsl.engine.showcase import Showcase, show
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.model.dropout import masks
from gpt2dsl.model.evaluation import TokenLosses
from gpt2dsl.model.init import initial
from gpt2dsl.model.network import GPT2
from gpt2dsl.model.training import TrainStep
from gpt2dsl.parts.task import Finetune, Pretrain
from gpt2dsl.weights import store


def run(job: Job) -> Result:
    """Train the network of the recipe on the task's data.

    Raises:
        Interrupted: the user stopped it; a checkpoint has what was done.
        RunError: the loss is not finite, or a checkpoint can't be written.
    """
    training = Training(job)
    with training.directory.alone():
        return training.run()


class Training:
    """One training run."""

    def __init__(self, job: Job) -> None:
        task = job.parts.task
        assert isinstance(task, Pretrain | Finetune)
        self.job, self.parts = job, job.parts
        self.directory = RunDirectory.of(job)
        self.tokenizer = Tokenizer.load(job.tokenizer)
        train = self.parts.train
        self.rows = self._read(task.data)
        self.rows.require(train.batch_size)
        self.held_out = self._read(task.eval_data) if task.eval_data else None
        self.identity = Identity(
            data=Source.open(task.data, Form.of(self.parts.data)).digest(),
            tokenizer=self.tokenizer.digest,
        )
        self.network = self._network()
        self.scores: Scores | None = None
        optim = self.parts.optim
        self.step = TrainStep(
            self.network,
            clip=train.clip,
            beta1=optim.beta1,
            beta2=optim.beta2,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
        )
        self.stop = StopRequest()
        self.evaluated: set[int] = set()
        self.saved: tuple[int, Path] | None = None
        self.speeds: list[float] = []
        self.loss = math.nan

    def run(self) -> Result:
        """From the newest checkpoint, or from the start, to the end."""
        with self.stop:
            if not self._resume():
                self.directory.write("metrics.jsonl", "")
            self._after()
            if self.step.steps == 0:
                self._remember("before.json")
            self._steps()
        result = self._result(self._save())
        self._report(result)
        self.directory.finish(result)
        return result

    def _read(self, name: str) -> Rows | Examples:
        """Rows of a text, or of texts with their classes."""
        if self.job.geometry.labels:
            return examples_of(self.job, name, self.tokenizer)
        return rows_of(self.job, name, self.tokenizer)

    def _network(self) -> GPT2:
        """The network with the weights that training starts from."""
        if self.job.weights:
            with saying(f"loading {self.job.weights}"):
                return loaded(self.job)
        geometry, seed = self.job.geometry, self.parts.train.seed
        return network_of(geometry, initial(geometry, seed), self.parts.runtime.device)

    def _resume(self) -> bool:
        """Go on from a checkpoint, if there is one."""
        resume = self.parts.train.resume
        folder = checkpoints.find(self.directory.checkpoints, resume)
        if folder:
            checkpoints.restore(folder, self.step, self.identity)
        if self.step.steps > self.job.steps:
            raise RunError(
                f"train.resume = {resume}: {folder} is at step {self.step.steps}, past the "
                f"{self.job.steps} steps of this recipe; raise train.steps or epochs [G2-402]"
            )
        if resume != "auto":
            checkpoints.set_aside(self.directory.checkpoints, self.step.steps)
        if folder is None:
            return False
        self.directory.forget_after(self.step.steps)
        self.evaluated = {
            int(line["step"]) for line in self.directory.metrics() if "eval_loss" in line
        }
        if self.job.geometry.labels:  # The scores of the end are not in one line of metrics.
            self.evaluated.discard(self.job.steps)
        say(f"resumed from {folder}: step {self.step.steps} of {self.job.steps}")
        return True

    def _steps(self) -> None:
        """Every step that is left."""
        total = self.job.steps
        if self.step.steps < total:
            with saying("compiling the training step, then the first step"):
                self._one()
            self._after()
        with Bar("training", total, self.step.steps) as bar:
            while self.step.steps < total:
                self._one()
                bar.step(f"loss {self.loss:.4f}  {self._speed():,.0f} tokens/s")
                self._after()

    def _one(self) -> None:
        """One optimizer step, and its line of metrics."""
        train, done = self.parts.train, self.step.steps
        started = time.perf_counter()
        indices = rows_of_step(done, train.batch_size, len(self.rows), train.seed)
        ids, labels = self.rows.batch(indices)
        lr = learning_rate(self.parts.schedule, self.parts.optim.lr, done, self.job.steps)
        places = range(train.batch_size)
        kept = masks(self.job.geometry, train.seed, done, places, self.rows.length)
        self.loss, norm = self.step.step(ids, labels, lr, kept)
        if not (math.isfinite(self.loss) and math.isfinite(norm)):
            raise RunError(
                f"step {done + 1}: loss {self.loss}, gradient norm {norm}; rows "
                f"{', '.join(map(str, indices[:8]))} of {self.rows.name}; last good checkpoint: "
                f"{store.newest(self.directory.checkpoints).folder or 'none'} [G2-402]"
            )
        speed = train.batch_size * self.rows.length / (time.perf_counter() - started)
        self.speeds.append(speed)
        self.directory.log(
            step=done + 1, loss=self.loss, lr=lr, gradient_norm=norm, tokens_per_second=speed
        )

    def _speed(self) -> float:
        """Tokens a second, without the step that compiled."""
        return median(self.speeds[1:][-50:] or self.speeds)

    def _after(self) -> None:
        """What is due after a step: a checkpoint, an evaluation, the end."""
        every, done = self.parts.train.save_every, self.step.steps
        if done and (done == self.job.steps or (every and done % every == 0)):
            self._save()
        if self._evaluation_is_due():
            self._evaluate()
        if self.stop.wanted and (done < self.job.steps or self._evaluation_is_due()):
            raise Interrupted(
                f"stopped at step {done} of {self.job.steps}; checkpoint {self._save()}\n"
                f"go on with: {self.job.resume_command}"
            )

    def _evaluation_is_due(self) -> bool:
        """Before the first step, after the last one, and every so many steps."""
        every, done = self.parts.train.evaluate_every, self.step.steps
        wanted = done in (0, self.job.steps) or (every > 0 and done % every == 0)
        return self.held_out is not None and wanted and done not in self.evaluated

    def _evaluate(self) -> None:
        """A line of metrics on held-out data; given up when the user stops."""
        assert self.held_out is not None
        if isinstance(self.held_out, Examples):
            found = self._class_metrics(self.held_out)
        else:
            found = self._text_metrics(self.held_out)
        if found is not None:
            self.evaluated.add(self.step.steps)
            self.directory.log(step=self.step.steps, **found)

    def _text_metrics(self, rows: Rows) -> dict[str, float] | None:
        batch = self.parts.train.batch_size
        found = mean_loss(self._losses, rows, batch, lambda: self.stop.wanted)
        if found is None:
            return None
        loss, tokens = found
        words = f"held-out loss {loss:.4f}, perplexity {perplexity(loss):,.2f}"
        say(f"step {self.step.steps}: {words}")
        return {"eval_loss": loss, "eval_perplexity": perplexity(loss), "eval_tokens": tokens}

    def _class_metrics(self, examples: Examples) -> dict[str, float] | None:
        batch = self.parts.train.batch_size
        self.scores = self._classifier.scores(examples, batch, lambda: self.stop.wanted)
        if self.scores is None:
            return None
        loss, accuracy = self.scores.loss, self.scores.accuracy
        say(f"step {self.step.steps}: held-out loss {loss:.4f}, accuracy {accuracy:.4f}")
        return {
            "eval_loss": loss,
            "eval_accuracy": accuracy,
            "eval_matthews": self.scores.matthews,
        }

    @cached_property
    def _losses(self) -> TokenLosses:
        return TokenLosses(self.network)

    @cached_property
    def _classifier(self) -> TextClassifier:
        return TextClassifier(
            self.network, self.tokenizer, self.job.classes, self.parts.train.seq_length
        )

    def _save(self) -> Path:
        """The checkpoint of this step, written unless it is there already."""
        if self.saved is None or self.saved[0] != self.step.steps:
            folder = checkpoints.save(
                self.directory.checkpoints,
                self.step,
                self.tokenizer,
                self.identity,
                self.parts.train.keep,
                classes=self.job.classes,
            )
            self.saved = (self.step.steps, folder)
        return self.saved[1]

    def _result(self, checkpoint: Path) -> Result:
        metrics = self.directory.metrics()
        held_out = [line for line in metrics if "eval_loss" in line]
        training = [line["loss"] for line in metrics if "loss" in line]
        speeds = [line["tokens_per_second"] for line in metrics if "tokens_per_second" in line]
        first, last = (held_out[0], held_out[-1]) if held_out else ({}, {})
        recent = sum(training[-20:]) / len(training[-20:]) if training else None
        return Result(
            task=self.parts.task.name if self.parts.task else "",
            directory=self.directory.path,
            checkpoint=checkpoint,
            steps=self.step.steps,
            loss=last.get("eval_loss", recent),
            perplexity=last.get("eval_perplexity"),
            loss_before=first.get("eval_loss"),
            perplexity_before=first.get("eval_perplexity"),
            tokens=int(last.get("eval_tokens", 0)),
            tokens_per_second=median(speeds[1:] or speeds) if speeds else None,
            scores=self.scores,
            notes=self.job.notes,
        )

    def _remember(self, name: str) -> Showcase | None:
        """What the model makes of held-out text now, kept for the report."""
        if not isinstance(self.held_out, Rows):
            return None
        with saying("generating samples for the report"):
            model = LanguageModel(self.network, self.tokenizer)
            now = show(model, self._losses, self.held_out, self.parts)
        self.directory.write(name, json.dumps(now.to_json()))
        return now

    def _report(self, result: Result) -> None:
        before = self.directory.path / "before.json"
        after = self._remember("after.json")
        then = None
        if after and before.exists():
            then = Showcase.from_json(json.loads(before.read_text(encoding="utf-8")))
        page = training_report(self.job, result, self.directory.metrics(), then, after)
        self.directory.write("report.html", page)
