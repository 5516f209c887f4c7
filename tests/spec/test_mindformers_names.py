from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Classifier, SpecError
from gpt2dsl.spec.mindformers import carrying, document
from gpt2dsl.spec.mindformers.document import ConfigEntry
from tests.spec.mindformers_files import write


def carry(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    carrying.carry(document.read(write(tmp_path, name, changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run_mode": ["train"]}, "expected one of train, finetune, eval, predict, found ['train"),
        ({"model.model_config.type": "LlamaConfig"}, "expected GPT2Config, found 'LlamaConfig'"),
        (
            {"model.arch.type": "LlamaForCausalLM"},
            "expected one of GPT2LMHeadModel, GPT2ForSequenceClassification, found 'LlamaFor",
        ),
        ({"model.arch.type": ["GPT2LMHeadModel"]}, "expected one of GPT2LMHeadModel, "),
        (
            {"trainer.type": "ImageClassificationTrainer"},
            "expected one of CausalLanguageModelingTrainer, TextClassificationTrainer, found 'Im",
        ),
        ({"trainer.model_name": "llama_7b"}, "such as gpt2_xl, found 'llama_7b'"),
        ({"processor.tokenizer.type": "BertTokenizer"}, "expected GPT2Tokenizer, found 'Bert"),
        ({"train_dataset.tokenizer.type": "BertTokenizer"}, "expected GPT2Tokenizer, found 'B"),
        ({"eval_dataset.tokenizer.type": "BertTokenizer"}, "expected GPT2Tokenizer, found 'Be"),
        ({"processor.type": "LlamaProcessor"}, "expected GPT2Processor, found 'LlamaProcessor'"),
        ({"train_dataset.data_loader.type": "TFRecordDataset"}, "expected MindDataset, found 'TF"),
        ({"train_dataset_task.type": "SummaryDataset"}, "expected one of CausalLanguageModelD"),
        ({"metric.type": "EmF1Metric"}, "expected one of PerplexityMetric, Accuracy, found 'Em"),
        ({"runner_wrapper.type": "Mine"}, "expected one of MFTrainOneStepCell, MFPipelineWith"),
        ({"parallel.parallel_mode": "STAND_ALONE"}, "expected one of 0, 3, DATA_PARALLEL, HYBRID"),
        ({"optimizer.type": ""}, "expected one of FusedAdamWeightDecay"),
        (
            {"model.model_config.pet_config.pet_type": "prefixtuning"},
            "expected lora, found 'prefixtuning'",
        ),
    ],
)
def test_values_that_are_not_gpt2s_are_faults(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        carry(tmp_path, "run_gpt2", changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "run_gpt2_txtcls", {"model.model_config.num_labels": 0},
            ("model.arch.type", "GPT2ForSequenceClassification needs model.model_config.num_lab"
             "els, the number of classes, which is missing"),
        ),
        (
            "run_gpt2", {"model.model_config.num_labels": 2},
            ("model.model_config.num_labels", "GPT2LMHeadModel has no classes: delete the line, "
             "or say model.arch.type: GPT2ForSequenceClassification"),
        ),
        (
            "run_gpt2", {"trainer.type": "TextClassificationTrainer"},
            ("trainer.type", "TextClassificationTrainer is for a classifier, but the network is "
             "a language model (model.arch.type is GPT2LMHeadModel): expected "
             "CausalLanguageModelingTrainer"),
        ),
        (
            "run_gpt2_txtcls", {"eval_dataset_task.type": "CausalLanguageModelDataset"},
            ("eval_dataset_task.type", "CausalLanguageModelDataset is for a language model, but "
             "the network is a classifier (model.arch.type is GPT2ForSequenceClassification): "
             "expected TextClassificationDataset"),
        ),
        (
            "run_gpt2", {"metric.type": "Accuracy"},
            ("metric.type", "Accuracy is for a classifier, but the network is a language model "
             "(model.arch.type is GPT2LMHeadModel): expected PerplexityMetric"),
        ),
    ],
)  # fmt: skip
def test_values_that_contradict_the_networks_head_are_faults(
    tmp_path: Path, name: str, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    with pytest.raises(SpecError) as error:
        carry(tmp_path, name, changes)
    assert [(fault.key, fault.message) for fault in error.value.faults] == [expected]


def test_the_labels_say_the_head_where_the_network_is_not_named() -> None:
    trainer = ConfigEntry("trainer.type", "TextClassificationTrainer", "a.yaml:1")
    with pytest.raises(SpecError, match=r"a language model \(model.model_config.num_labels is mis"):
        carrying.carry([trainer])
    labels = ConfigEntry("model.model_config.num_labels", 2, "a.yaml:2")
    assert Classifier(labels=2) in carrying.carry([trainer, labels]).parts()
