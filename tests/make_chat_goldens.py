"""Chat templates in the manner of many model families, and what transformers renders with them.

    python3 make_chat_goldens.py > golden/chat_templates.json

The templates are written for this test; between them they use what real ones use of Jinja.
Conversations end with the user's turn, and the model's next turn is opened. Needs transformers.
"""

import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}\
{% set opening = messages[0]['content'] %}{% else %}{% set rest = messages %}\
{% set opening = false %}{% endif %}\
{% for message in rest %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('turns must alternate') }}{% endif %}\
{% if loop.index0 == 0 and opening != false %}\
{% set content = '<<SYS>>\\n' + opening + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}\
{% endif %}{% endfor %}"""

LLAMA3 = """\
{% set loop_messages = messages %}{% for message in loop_messages %}\
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
message['content'] | trim + '<|eot_id|>' %}\
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif \
%}"""

LLAMA31 = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The opening is taken out, so that it can be put first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' \
+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("one call at a time") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL1 = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported') }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL3 = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or \
(message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""

CHATML = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% for message in messages %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and \
not(message.content.startswith('<tool_response>') and \
message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = \
content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

TULU = """\
{% for message in messages %}{% if message['role'] == 'system' %}\
{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}\
{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}\
{% if not loop.last %}{{ '<|assistant|>\\n'  + message['content'] + eos_token + '\\n' }}\
{% else %}{{ '<|assistant|>\\n'  + message['content'] + eos_token }}{% endif %}{% endif %}\
{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}"""

VICUNA = """\
{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] | trim + ' \
' %}\
{% set messages = messages[1:] %}{% else %}\
{% set system_message = 'A chat between a curious user and an assistant. ' %}{% endif %}\
{{ bos_token + system_message }}{% for message in messages %}{% if message['role'] == 'user' %}\
{{ 'USER: ' + message['content'] | trim + ' ' }}{% elif message['role'] == 'assistant' %}\
{{ 'ASSISTANT: ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

ALPACA = """\
{{ (messages|selectattr('role', 'equalto', 'system')|list|last).content|trim \
if (messages|selectattr('role', 'equalto', 'system')|list) else 'Below is an instruction.' }}

{% for message in messages %}
    {% if message['role'] == 'user' %}
### Instruction:
{{ message['content']|trim -}}
        {% if not loop.last %}


        {% endif %}
    {% elif message['role'] == 'assistant' %}
### Response:
{{ message['content']|trim -}}
        {% if not loop.last %}


        {% endif %}
    {% endif %}
{% endfor %}
{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}


### Response:
{% endif %}"""

GEMMA2 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""

DEEPSEEK = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}\
{%- for message in messages %}{%- if message['role'] == 'system' %}\
{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}\
{% set ns.is_first_sp = false %}\
{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}\
{%- endif %}{%- endif %}{%- endfor %}\
{{ bos_token }}{{ ns.system_prompt }}\
{%- for message in messages %}\
{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}\
{{'<|User|>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' and message['content'] is not none %}\
{%- if ns.is_tool %}{{'<|tool_end|>' + message['content'] + eos_token}}{%- set ns.is_tool = false \
-%}\
{%- else %}{% set content = message['content'] %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<|Assistant|>' + content + eos_token}}{%- endif %}{%- endif %}{%- endfor -%}\
{% if add_generation_prompt and not ns.is_tool %}{{'<|Assistant|>'}}{% endif %}"""

MACROS = """\
{%- macro turn(role, content, mark='#') -%}
    {{ mark ~ role.title() ~ ': ' ~ content|replace('\\n', ' ')|trim }}
{%- endmacro -%}
{%- set names = {'user': 'Human', 'assistant': 'Assistant'} -%}
{%- for message in messages if message.role in names %}
{{ turn(names[message.role] | lower, message.content, mark='H' if message.role == 'user' else \
'A') }}
{%- if message.content | length > 20 and message['content'].lower().find('q') != -1 %} (long){% \
endif %}
{%- endfor %}
{% for key, value in names.items() %}{{ key }}={{ value }};{% endfor %}
{{ ["a", "b"] | join("|") }} {{ names | tojson }} {{ messages[0] | tojson(indent=2) }}
{{ messages | map(attribute='role') | list }} {{ none }} {{ true and not false }} {{ 7 // 2 }} {{ \
7 / 2 }}
{{- "%s and %s" | format(1, 'x') }} {{ messages | map(attribute='content') | map('length') | sum }}
{%- set counter = namespace(n=0) %}
{%- for message in messages %}{% if message.role == 'user' %}{% continue %}{% endif %}
{%- set counter.n = counter.n + 1 %}{% endfor %} {{ counter.n }} {{ missing | default('none') }}
{%- for message in messages %}{{ loop.cycle('x', 'y') }}{{ loop.revindex }}\
{{ loop.previtem.role if loop.previtem is defined else '-' }}\
{{ loop.nextitem.role if not loop.last }}{% endfor %}
{{- messages[-1].content.split()[0] }}{{ messages[-1]['content'][:3] }}{{ \
messages[-1].get('name') }}
{%- if messages[-1].get('name', 'x') is not none %}!{% endif %}{{ 'ab' * 2 }}{{ 2 ** 3 }}{{ -7 % \
3 }}
{%- filter upper %}shout{% endfilter %}{% raw %}{{ raw }}{% endraw %}{{ [1, 2] + [3] }}{{ (1, \
'a') }}
{{- "it's" | tojson }}{{ ['a', "it's", 1.0, none] }}{{ range(3) | list }}{{ 'x' is in 'xyz' }}
"""

GENERATION = """\
{{ bos_token }}{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
<|assistant|>
{%- generation -%}
{{ message['content'] }}{{ eos_token }}
{%- endgeneration %}
{% else %}
<|{{ message['role'] }}|>{{ message['content'] }}
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""

ABSENT = """\
{% if tools is none %}no tools{% endif %}{% if tools is not none %}tools{% endif %}
{% if documents is defined and documents is none %}no documents{% endif %}
{% if not custom is defined and not custom %}no custom{% endif %}[{{ custom }}]
{{ pad_token }}{{ unk_token if unk_token is defined else 'no unk' }}{{ cls_token }}
"""

TEMPLATES = {
    "llama-2": LLAMA2,
    "llama-3": LLAMA3,
    "llama-3.1": LLAMA31,
    "mistral-v1": MISTRAL1,
    "mistral-v3": MISTRAL3,
    "chatml": CHATML,
    "qwen": QWEN,
    "zephyr": ZEPHYR,
    "tulu": TULU,
    "vicuna": VICUNA,
    "alpaca": ALPACA,
    "gemma-2": GEMMA2,
    "deepseek": DEEPSEEK,
    "macros": MACROS,
    "generation": GENERATION,
    "absent": ABSENT,
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def conversations():
    """Lists of turns, one for each way in which templates tell conversations apart."""
    user = [
        " Which is larger, 9 or 11?\n",
        "Why?\n\n  “So” <b>&amp;</b> {{ it }} is it's \"quite\" é\t",
    ]
    answer = "<think>\n9 < 11\n</think>\n\n11 is. "

    def turn(role, content):
        return {"role": role, "content": content}

    long = [turn("user", user[0]), turn("assistant", answer), turn("user", user[1])]
    opening = turn("system", " Be brief.\n")
    return [
        [turn("user", user[0])],
        long,
        [opening, turn("user", user[1])],
        [opening, *long],
        [turn("user", "one"), turn("user", "two")],
        [turn("user", "")],
    ]


def main():
    found = []
    for name, template in TEMPLATES.items():
        cases = []
        for messages in conversations():
            case = {"messages": messages}
            try:
                rendered, _ = render_jinja_template(
                    [messages], chat_template=template, add_generation_prompt=True, **TOKENS
                )
                case["rendered"] = rendered[0]
            except Exception as error:  # a template's own refusal
                case["error"] = str(error)
            cases.append(case)
        found.append({"name": name, "template": template, "cases": cases})
    json.dump({"tokens": TOKENS, "templates": found}, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
