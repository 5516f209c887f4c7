"""The pretrain and finetune tasks: training steps, evaluations, checkpoints and a final report."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import attrs

from gpt2dsl import terminal
from gpt2dsl.cluster.reports import Reporter
from gpt2dsl.data import documents
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.order import rows_of as rows_of_step
from gpt2dsl.data.rows import Rows
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine import checkpoints, for_transformers, held_out
from gpt2dsl.engine.callbacks import Callback, Callbacks, ReportForwarder, Start
from gpt2dsl.engine.checkpoint_writer import checkpoint_writer
from gpt2dsl.engine.checkpoints import Checkpoints
from gpt2dsl.engine.clock import Clock
from gpt2dsl.engine.context import parallel_context
from gpt2dsl.engine.evaluate import examples_of, rows_of
from gpt2dsl.engine.figures import figures
from gpt2dsl.engine.find_checkpoint import find
from gpt2dsl.engine.held_out import HeldOut, Metrics
from gpt2dsl.engine.interrupt import StopRequest
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.lr_schedule import learning_rate
from gpt2dsl.engine.micro_batches import MicroBatches
from gpt2dsl.engine.progress import Bar, say, saying
from gpt2dsl.engine.report import training_report
from gpt2dsl.engine.rundir import BEFORE, RunDirectory
from gpt2dsl.engine.saves import Saves
from gpt2dsl.engine.showcase import Showcase
from gpt2dsl.engine.tensorboard import TensorBoard
from gpt2dsl.engine.train_step import initial_values, load_initial, train_step
from gpt2dsl.engine.utilization import Utilization
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.weights import store


def run(job: Job) -> Result:
    """Train the network of the recipe on the task's data.

    Raises:
        Interrupted: the user stopped the run; a checkpoint has its state.
        RunError: the loss is not finite, or a checkpoint can't be written.
    """
    training = TrainingRun(job)
    # with several ranks, their parent process locks the directory
    with training.directory.alone() if training.team.is_alone else nullcontext():
        return training.run()


class TrainingRun:
    """One training run."""

    def __init__(self, job: Job) -> None:
        tokenizer = Tokenizer.load(job.tokenizer)
        identity = job.identity.with_contents("data.tokenizer", tokenizer.digest)
        self.clock, self.was_finished = Clock(), False
        self.job, self.parts = attrs.evolve(job, identity=identity), job.parts
        self.team = parallel_context(job.parts)
        self.reports = Reporter.from_environment()
        self.directory = RunDirectory.of(job, writes=self.team.is_main_process)
        self.told: Callback = Callbacks(self._told() if self.team.is_main_process else [])
        train = self.parts.train
        self.rows = self._read("task.data", tokenizer, trains=True)
        self.rows.require(train.batch_size)
        self.step = train_step(job, self.team)
        self.checkpoints = Checkpoints(
            parent=self.directory.checkpoints,
            step=self.step,
            identity=identity,
            initial=partial(initial_values, job, self.team),
            layout=self.parts.parallel.grid,
            micro_batches=self.parts.parallel.micro_batches,
        )
        self.saves = Saves(
            checkpoint_writer(
                self.job, self.directory.checkpoints, self.step, self.team, tokenizer
            ),
            is_async=train.async_save,
            told=self.told.on_checkpoint,
        )
        self.utilization = Utilization(self.job, self.team)
        self.micro_batches = MicroBatches(
            self.job, self.rows, self.step.network, self.team, self.clock
        )
        self.stop = StopRequest()
        self.held_out: HeldOut | None = None
        if "task.eval_data" in job.sources:
            rows = self._read("task.eval_data", tokenizer)
            network = self.step.network
            self.held_out = HeldOut(
                job, network, tokenizer, rows, wanted=self._gives_up, team=self.team
            )
        self.evaluations: list[Metrics] = []
        self.saved: tuple[int, Path] | None = None
        self.speeds: list[float] = []
        self.loss = math.nan

    def _told(self) -> list[Callback]:
        board = [TensorBoard(self.directory.path)] if self.parts.runtime.tensorboard else []
        forward = [ReportForwarder(self.reports)] if self.reports.is_heard else []
        return [*self.job.callbacks, *board, *forward]

    def _gives_up(self) -> bool:
        """Return whether to abort an evaluation; several ranks can't agree on it and never do."""
        return self.stop.wanted and self.team.is_alone

    def run(self) -> Result:
        """Train from the newest checkpoint, or from the start, to the end."""
        with self.stop, closing(self.micro_batches), self.saves:
            self._begin()
            self.told.on_start(self._start())
            self._after()
            if self.step.steps == 0:
                self._remember(BEFORE)
            self._steps()
            checkpoint = self._saved()
        after = None if self.was_finished else self._remember("after.json")
        if not self.team.is_main_process:
            return Result(task="", directory=self.directory.path, checkpoint=checkpoint)
        result = self._result(checkpoint)
        if self.parts.train.export == "hf":
            self.reports.phase("writing the weights for transformers", long=True)
            result = attrs.evolve(result, target=for_transformers.write(result))
        if not self.was_finished:
            self._report(result, after)
            self.directory.finish(result)
        self.told.on_end(result)
        return result

    def _begin(self) -> None:
        """Resume from a checkpoint or start anew, and record the attempt."""
        metrics = self.directory.metrics()
        reached = metrics[-1]["step"] if metrics else 0
        folder = self._resume()
        if folder is None:
            self.directory.write("metrics.jsonl", "")
        if not self.was_finished:
            self.directory.describe(self.job)
        if self._is_over():
            return
        goes_on = self._is_own(folder) or reached > self.step.steps
        is_anew = self.parts.train.resume == "never" or not goes_on
        before = None if is_anew else int(reached)
        self.directory.attempt(self.step.steps, before, self.parts.parallel.grid)

    def _start(self) -> Start:
        """Return the start event of callbacks."""
        return Start(
            name=self.job.name,
            directory=self.directory.path,
            step=self.step.steps,
            steps=self.job.steps,
            recipe=self.job.documents["recipe.toml"],
        )

    def _read(self, key: str, tokenizer: Tokenizer, *, trains: bool = False) -> Rows | Examples:
        """Return rows of a text, or labelled examples for a classifier."""
        if self.job.geometry.labels:
            return examples_of(self.job, key, tokenizer)
        return rows_of(self.job, key, tokenizer, trains=trains)

    def _is_own(self, folder: Path | None) -> bool:
        """Return whether a checkpoint belongs to this run."""
        return folder is not None and folder.parent == self.directory.checkpoints

    def _resume(self) -> Path | None:
        """Restore a checkpoint and return its folder; without one, load the initial values."""
        resume = self.parts.train.resume
        folder = find(self.directory.checkpoints, resume, self.team)
        differences = self.checkpoints.restore(folder) if folder else []
        if folder is None:
            load_initial(self.step, self.job, self.team)
        if self.step.steps > self.job.steps:
            raise RunError(
                "G2-402",
                f"train.resume = {resume}: {folder} is at step {self.step.steps}, past the "
                f"{self.job.steps} steps of this recipe; raise train.steps or epochs",
            )
        self.team.barrier()
        if resume != "auto" and not self._is_own(folder) and self.team.is_main_process:
            checkpoints.set_aside(self.directory.checkpoints, self.step.steps)
        if folder is None:
            return None
        step = self.step.steps
        other_text = any(difference.key == "task.eval_data" for difference in differences)
        self.directory.forget_after(step, evaluations_after=-1 if other_text else step)
        if other_text:
            self.directory.forget_outcome()
        self.team.barrier()
        for difference in differences:
            terminal.say(
                f"changed since the checkpoint was written: {difference}; {difference.rule.words}"
            )
        self.evaluations = [line for line in self.directory.metrics() if "eval_loss" in line]
        if self.job.geometry.labels and self._is_over():
            # Final scores are not in metrics.jsonl: repeat the last evaluation.
            self.team.barrier()
            self.directory.forget_after(step, evaluations_after=step - 1)
            self.evaluations = [line for line in self.evaluations if line["step"] < step]
        is_same = self._is_own(folder) and not differences
        # A run that goes on needs no copy of where it began; one that is over is found by its own,
        # which has the identity of its result.
        keeps_best = self.parts.train.best and not self._is_own(folder)
        if is_same or not (keeps_best or self._is_over()):
            self.saved = step, folder
        self.was_finished = self.team.any(is_same and self._has_finished())
        how = "already finished:" if self.was_finished else "resumed from"
        relaid = "" if self._is_over() else self.checkpoints.relaid(folder)
        say(f"{how} {folder}: step {step} of {self.job.steps}{relaid}")
        return folder

    def _has_finished(self) -> bool:
        """Return whether an earlier process finished these steps; False off the main process."""
        if not self.team.is_main_process or self._evaluation_is_due() or not self._is_over():
            return False
        return self.directory.finished_steps() == self.step.steps

    def _is_over(self) -> bool:
        """Return whether all steps are done, or training stops early."""
        patience = self.parts.train.patience
        return self.step.steps >= self.job.steps or (
            held_out.is_out_of_patience(self.evaluations, patience)
        )

    def _steps(self) -> None:
        """Do all remaining steps."""
        if not self._is_over():
            with saying("compiling the training step, then the first step"):
                self.reports.phase("compiling the training step", long=True)
                self._one()
            self._after()
        with Bar("training", self.job.steps, self.step.steps) as bar:
            while not self._is_over():
                self._one()
                bar.step(f"loss {self.loss:.4f}  {self._speed():,.0f} tokens/s")
                self._after()
        if self.step.steps < self.job.steps:
            say(f"stopped early: {self.parts.train.patience} evaluations without a lower loss")

    def _one(self) -> None:
        """Do one optimizer step, and log its metrics."""
        train, done = self.parts.train, self.step.steps
        started = time.perf_counter()
        # A step skipped by an overflow does not advance the schedule, as in transformers' Trainer.
        updates = self.step.updates
        lr = learning_rate(self.parts.schedule, self.parts.optim.lr, updates, self.job.steps)
        scale = self.step.scale.value if self.step.scale else None
        with self.clock.of("computing steps"):
            self.loss, norm = self.step.step(self.micro_batches.of_step(done), lr)
        metrics = {"loss": self.loss, "lr": lr}
        if math.isfinite(self.loss) and math.isfinite(norm):
            metrics["gradient_norm"] = norm
        elif math.isfinite(self.loss) and scale is not None and scale > 1:
            metrics["skipped"] = 1
        else:
            self._refuse(done, norm)
        if scale is not None:
            metrics["loss_scale"] = scale
        seconds = time.perf_counter() - started
        speed = train.batch_size * self.rows.length / seconds
        self.speeds.append(speed)
        metrics["tokens_per_second"] = speed
        if (utilization := self.utilization.of_step(seconds)) is not None:
            metrics["mfu"] = utilization
        self.directory.log(step=done + 1, **metrics)
        self.told.on_step(done + 1, metrics)
        self.reports.step(done + 1)

    def _refuse(self, done: int, norm: float) -> None:
        """Raise RunError for a loss or a gradient that is not finite."""
        self.saves.settle()
        train = self.parts.train
        indices = rows_of_step(done, train.batch_size, len(self.rows), train.seed)
        raise RunError(
            "G2-402",
            f"step {self.step.steps}: loss {self.loss}, gradient norm {norm}; rows "
            f"{', '.join(map(str, indices[:8]))} of {self.rows.name}; last good checkpoint: "
            f"{store.newest(self.directory.checkpoints).folder or 'none'}",
        )

    def _speed(self) -> float:
        """Return the median speed in tokens per second, without the step that compiles."""
        return median(self.speeds[1:][-50:] or self.speeds)

    def _after(self) -> None:
        """Save a checkpoint, evaluate or stop, if due after a step."""
        self.saves.hear()
        every, done = self.parts.train.save_every, self.step.steps
        if done and (done == self.job.steps or (every and done % every == 0)):
            self._save()
        if self._evaluation_is_due():
            self._evaluate()
        if self.team.any(self.stop.wanted) and (not self._is_over() or self._evaluation_is_due()):
            raise Interrupted(
                "G2-404",
                f"stopped at step {done} of {self.job.steps}; checkpoint {self._saved()}\n"
                f"go on with: {self.job.resume_command}",
            )

    def _evaluation_is_due(self) -> bool:
        """Return whether to evaluate now: before training, after it and at intervals."""
        every, done = self.parts.train.evaluate_every, self.step.steps
        is_due = done in (0, self.job.steps) or (every > 0 and done % every == 0)
        evaluated = any(evaluation["step"] == done for evaluation in self.evaluations)
        return self.held_out is not None and is_due and not evaluated

    def _evaluate(self) -> None:
        """Evaluate on held-out data and log the metrics, unless the user stops it."""
        assert self.held_out is not None
        done = self.step.steps
        self.reports.phase("evaluating", long=True)
        with self.clock.of("evaluation"):
            metrics = self.held_out.metrics(done)
        if metrics is None:
            return
        self.evaluations.append({"step": done, **metrics})
        self.directory.log(step=done, **metrics)
        if self.parts.train.best and done and done == self._best():
            self._save()
        self.told.on_evaluation(done, metrics)

    def _best(self) -> int | None:
        """Return the best step so far, if its checkpoint is to be kept."""
        return held_out.best_step(self.evaluations) if self.parts.train.best else None

    def _save(self) -> Path:
        """Return the checkpoint of this step, which is being written or exists already."""
        if self.saved is None or self.saved[0] != self.step.steps:
            self.reports.phase("saving a checkpoint", long=True)
            with self.clock.of("checkpoints"):
                folder = self.saves.begin(self._best())
            self.saved = (self.step.steps, folder)
        return self.saved[1]

    def _saved(self) -> Path:
        """Return the checkpoint of this step once it is sealed."""
        folder = self._save()
        with self.clock.of("checkpoints"):
            self.saves.finish()
        return folder

    def _result(self, checkpoint: Path) -> Result:
        return Result(
            task=self.parts.task.kind if self.parts.task else "",
            directory=self.directory.path,
            checkpoint=checkpoint,
            best=held_out.kept_checkpoint(self.directory.checkpoints, self._best()),
            steps=self.step.steps,
            stopped_early=self.step.steps < self.job.steps,
            scores=self.held_out.scores if self.held_out else None,
            notes=(*self.job.notes, *self.saves.failures, *held_out.warnings(self.evaluations)),
            **figures(self.directory.metrics()),
        )

    def _remember(self, name: str) -> Showcase | None:
        """Save the showcase of the model's current state for the report, and return it."""
        self.reports.phase("generating samples", long=True)
        now = self.held_out.showcase() if self.held_out else None
        if now:
            self.directory.write(name, documents.dumps(now.to_json()))
        return now

    def _report(self, result: Result, after: Showcase | None) -> None:
        before = self.directory.path / BEFORE
        then = None
        if after and before.exists():
            then = Showcase.from_json(json.loads(before.read_text(encoding="utf-8")))
        metrics = self.directory.metrics()
        page = training_report(
            self.job,
            result,
            metrics,
            then,
            after,
            clock=self.clock,
            attempts=self.directory.attempts(),
            tokens=self.parts.train.batch_size * self.rows.length,
        )
        self.directory.write("report.html", page)
