"""Writes tests/fixtures/data/original-strings.json: what DeepSpeed-Chat's own classes make of records of the published shapes.

    python tests/external/original_data_strings.py path/to/DeepSpeed-Chat > tests/fixtures/data/original-strings.json

Needs torch and datasets. The records are made up here, in the fields of the published files; nothing is downloaded.
"""
import contextlib
import importlib.util
import io
import json
import pathlib
import sys

HH = "\n\nHuman: What is a pear?\n\nAssistant: A fruit.\n\nHuman: Which colour?\n\nAssistant:"
passage = lambda text: {"docid": "1#0", "title": "t", "text": text}
webgpt = lambda a, b, answers=("Blue [1].", "It is (mostly) grey [2, 3]."): {
    "question": {"dataset": "eli5", "id": "1", "full_text": "Why is the sky blue?"},
    "answer_0": answers[0], "answer_1": answers[1], "score_0": a, "score_1": b,
}
shp = lambda label: {"post_id": "x", "history": "How do I boil an egg?", "human_ref_A": "In water.", "human_ref_B": "In a pan. ",
                     "labels": label, "score_ratio": 1.2}
mkqa = lambda zh, ja: {"query": "who?", "queries": {"zh_cn": zh, "ja": ja},
                       "answers": {"zh_cn": [{"type": "entity", "text": zh and "11.0 \u82f1\u91cc"}],
                                   "ja": [{"type": "entity", "text": ja and "11.0 \u30de\u30a4\u30eb"}]}}

RECORDS = {
    "Dahoas/rm-static": ("DahoasRmstaticDataset", [{"prompt": HH, "response": " Green.", "chosen": " Green.", "rejected": " Blue. \n"}]),
    "Dahoas/full-hh-rlhf": ("DahoasFullhhrlhfDataset", [{"prompt": HH, "response": " Green.", "chosen": " Green.", "rejected": " Red"}]),
    "Dahoas/synthetic-instruct-gptj-pairwise": ("DahoasSyntheticinstructgptjpairwiseDataset", [
        {"prompt": "Name a fruit.", "chosen": "Pear.\n", "rejected": " Stone"}]),
    "yitingxie/rlhf-reward-datasets": ("YitingxieRlhfrewarddatasetsDataset", [
        {"prompt": "Human: Which fruit?\n\n", "chosen": "Assistant: A pear.", "rejected": "Assistant: A stone."},
        {"prompt": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Which fruit?\n\n", "chosen": "Assistant: A pear.",
         "rejected": "Assistant: No"}]),
    "openai/webgpt_comparisons": ("OpenaiWebgptcomparisonsDataset", [
        webgpt(0.5, -0.5), webgpt(-1.0, 1.0), webgpt(0.0, 0.0),
        webgpt(1.0, 0.0, ("A [1\n] b\u2028 [x\u2028y] c (d] e.", "[1] [2]Start ((nested) out)"))]),
    "stanfordnlp/SHP": ("StanfordnlpSHPDataset", [shp(1), shp(0)]),
    "pvduy/sharegpt_alpaca_oa_vicuna_format": ("PvduySharegptalpacaoavicunaformatDataset", [
        {"prompt": "USER: Hi ASSISTANT: Hello USER: Which fruit? ASSISTANT:", "label": "A pear."},
        {"prompt": "", "label": "A pear."}, {"prompt": "USER: Hi ASSISTANT:", "label": None}]),
    "wangrui6/Zhihu-KOL": ("Wangrui6ZhihuKOLDataset", [
        {"INSTRUCTION": "\u4e3a\u4ec0\u4e48\u5929\u662f\u84dd\u8272\u7684\uff1f", "RESPONSE": "\u56e0\u4e3a\u6563\u5c04\u3002", "SOURCE": "Zhihu", "METADATA": "{}"},
        {"INSTRUCTION": None, "RESPONSE": "x"}, {"INSTRUCTION": "x", "RESPONSE": None}]),
    "Cohere/miracl-zh-queries-22-12": ("CohereMiraclzhqueries2212Dataset", [
        {"query_id": "1", "query": "\u4f60\u597d", "positive_passages": [passage("\u597d\u3002"), passage("2")],
         "negative_passages": [passage("\u574f\u3002")]}]),
    "Hello-SimpleAI/HC3-Chinese": ("HelloSimpleAIHC3ChineseDataset", [
        {"id": "0", "question": "\u4f60\u597d", "human_answers": ["\u597d", "2"], "chatgpt_answers": ["3"]},
        {"id": "1", "question": None, "human_answers": ["\u597d"]}, {"id": "2", "question": "x", "human_answers": [None]}]),
    "mkqa-Chinese": ("MkqaChineseDataset", [mkqa("\u591a\u8fdc\uff1f", "x"), mkqa(None, "x")]),
    "mkqa-Japanese": ("MkqaJapaneseDataset", [mkqa("x", "\u8ddd\u96e2\u306f\uff1f"), mkqa("x", None)]),
    "Cohere/miracl-ja-queries-22-12": ("CohereMiracljaqueries2212Dataset", [
        {"query_id": "1", "query": "\u3053\u3093\u306b\u3061\u306f", "positive_passages": [passage("\u306f\u3044")],
         "negative_passages": [passage("\u3044\u3044\u3048")]}]),
    "lmqg/qg_jaquad": ("LmqgQgjaquadDataset", [{"question": "\u8ab0\uff1f", "answer": "x", "sentence": "\u5f7c\u3067\u3059\u3002", "paragraph": "y"}]),
    "lmqg/qag_jaquad": ("LmqgQagjaquadDataset", [{"questions": ["\u8ab0\uff1f", "2"], "answers": ["x"], "paragraph": "\u5f7c\u3067\u3059\u3002"}]),
}


def main(folder: str) -> None:
    path = next(pathlib.Path(folder).rglob("raw_datasets.py"))
    spec = importlib.util.spec_from_file_location("raw_datasets", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = []
    for name, (class_name, records) in RECORDS.items():
        dataset = object.__new__(getattr(module, class_name))  # without the constructor, which downloads
        dataset.dataset_name = name
        for record in records:
            with contextlib.redirect_stdout(io.StringIO()):  # it warns where there is no rejected answer
                strings = {key: getattr(dataset, f"get_{key}")(record) for key in ("prompt", "prompt_and_chosen", "prompt_and_rejected")}
            result.append({"name": name, "record": record, **strings})
    json.dump(result, sys.stdout, indent=1)
    print()


main(sys.argv[1])
