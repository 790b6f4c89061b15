"""The settings that each command's help shows at first; `--help-all` shows every one."""

from __future__ import annotations

_FILES = "config model.model_name data.dataset data.data_path data.data_type data.with_cot data.sample data.topk "
_DEVICE = "trainer.accelerator trainer.devices trainer.precision "
_ADAPTERS = "model.adapter_format model.base_weight model.offline_root "
_ANSWERS = "model.inference_method model.max_new_tokens model.merge model.abstain_below "
_PASSAGES = "data.corpus data.retriever data.augment_model data.augment_root "

USUAL = {
    "augment": _FILES
    + _PASSAGES
    + "data.prompts data.augment.attempts data.augment.qa_per_passage data.augment.augment_batch_size "
    "data.augment.temperature data.chat " + _DEVICE,
    "fit": _FILES + "data.augment_model data.augment_root model.lora_rank model.lora_alpha model.learning_rate "
    "model.num_train_epochs model.lora_a model.null_space model.objective model.include_text model.group_tokens "
    + _ADAPTERS
    + _DEVICE,
    "test": _FILES
    + _ANSWERS
    + "model.answer_extraction model.adapters_from model.output_root data.augment_model data.retrieve_at_test "
    "data.per_device_eval_batch_size " + _ADAPTERS + _DEVICE,
    "plan": _FILES + _PASSAGES + _ADAPTERS + "model.inference_method model.group_tokens measure " + _DEVICE,
    "sync": "config store documents corpus dry_run model.model_name data.prompts data.augment_model data.chat "
    "data.splitter.words data.splitter.overlap data.splitter.language data.augment.qa_per_passage model.lora_rank "
    "model.lora_alpha model.learning_rate model.num_train_epochs model.group_tokens model.adapter_format " + _DEVICE,
    "forget": "store id",
    "ask": "config store model.model_name data.with_cot data.topk data.prompts question json "
    + _ANSWERS
    + _PASSAGES
    + _ADAPTERS
    + _DEVICE,
    "serve": "config store host port api_key allowed_hosts max_num_seqs max_queue max_tokens timeout model.model_name "
    "data.topk data.prompts " + _ANSWERS + _PASSAGES + _ADAPTERS + _DEVICE,
    "check": _FILES + "data.augment_model data.augment_root delete " + _ADAPTERS + _DEVICE,
    "export": "config store model.model_name data.dataset data.data_type data.with_cot data.sample data.topk "
    "data.corpus data.augment_model data.augment_root out test_ids passages merged rank layout format push_to_hub "
    "hub_private_repo model.merge model.max_new_tokens trainer.precision " + _ADAPTERS,
    "report": "config folder out compare model.output_root",
}
"""By command, the names of settings."""
USUAL["predict"] = USUAL["test"]
