#!/usr/bin/env python3
"""Writes cases.json: templates of ours, their variables, and what Jinja2 itself makes of them (the
environment that model templates expect: trim_blocks, lstrip_blocks, loop controls). Needs python3-jinja2."""
import json, os
from jinja2.sandbox import ImmutableSandboxedEnvironment
import jinja2.ext
T={}
T['chatml']="{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
T['llama2']="{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
T['ns']="""{%- set ns = namespace(found=false, n=0) %}
{%- for m in messages[::-1] %}
    {%- set ns.n = ns.n + 1 %}
    {%- if m.role == "user" and not ns.found %}{% set ns.found = true %}[{{ m.content | trim | upper }}]{% endif %}
{%- endfor %}
{{- ns.n }} {{ messages|length }} {{ messages | map(attribute='role') | join(', ') }} {{ messages|selectattr('role','equalto','user')|list|length }}
"""
T['tools']="""{%- macro one(t, i=0) -%}
{{ i }}: {{ t.function.name }} {{ t | tojson(indent=2) }}
{%- endmacro %}
{%- if tools is defined and tools %}
<tools>
{% for t in tools %}
{{ one(t, i=loop.index) }}
{% endfor %}
</tools>
{%- endif %}
{%- for m in messages %}{{ m }}{{ m|tojson }}{% if not loop.last %}, {% else %}.{% endif %}{% endfor %}
"""
T['misc']="{{ [1,2,3][-1] }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 5 }} {{ -7 % 3 }} {{ 'a' ~ 1 ~ none ~ true }} {{ 'x' in 'xyz' }} {{ 3 not in [1,2] }} {{ ('a','b') }} {{ {'k': [1, 2.0]} }} {{ nothing | default('d') }} {{ '%s' }} {{ 'a,b,c'.split(',') }} {{ 'abc'[1:] }} {{ 'Hello'.startswith('He') }} {{ 1 if false else 2 }} {{ 'é\\n' | tojson }} {% for k, v in {'a':1,'b':2}.items() %}{{k}}={{v}};{% endfor %}{% for i in range(3) if i != 1 %}{{ i }}{% else %}none{% endfor %} {{ 'a'|string is string }} {{ [3,1,2]|sort }} {{ [1,1,2]|unique|list }} {{ ' pad '|trim }} {{ messages[0].get('zz', 'dflt') }} {{ messages|first }} {{ 1.0 }} {{ 1e20 }} {{ 10000000000 * 3 }} {% set x %}block {{ 1 }}{% endset %}{{ x }}{# c #}{% raw %}{{ x }}{% endraw %}"
V=dict(messages=[{"role":"system","content":"Be <b> nice."},{"role":"user","content":" hi \"you\" "},{"role":"assistant","content":"yo"},{"role":"user","content":"bye é"}],add_generation_prompt=True,bos_token="<s>",eos_token="</s>",tools=[{"type":"function","function":{"name":"f","parameters":{"a":[1,2,{"x":None}],"b":{}}}}])
def raise_exception(m): raise Exception(m)
env=ImmutableSandboxedEnvironment(trim_blocks=True,lstrip_blocks=True,extensions=[jinja2.ext.loopcontrols])
env.filters['tojson']=lambda x,ensure_ascii=False,indent=None,separators=None,sort_keys=False: json.dumps(x,ensure_ascii=ensure_ascii,indent=indent,separators=separators,sort_keys=sort_keys)
env.globals['raise_exception']=raise_exception
cases = [{"name": k, "template": t, "vars": V, "want": env.from_string(t).render(**V)} for k, t in T.items()]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json"), "w", encoding="utf-8") as f:
    json.dump(cases, f, indent=1, ensure_ascii=False)
