#!/usr/bin/env python3
"""Writes cases.json: templates of ours, the variables they see, and what Jinja2 itself makes of them
in the environment that model templates expect (transformers: sandbox, trim_blocks, lstrip_blocks,
loop controls, a plain tojson, {% generation %} as a no-op). Needs python3-jinja2.

A case has "want" (the text), or "raises" (raise_exception's text), or "fails" (the class of Jinja2's
error: ours must fail as well, in words of its own; SecurityError: a list or dictionary is changed,
which other engines allow and so do we). The group "refused" has what we do not implement. What Python prints with an address in it, or a
clock, is no case."""
import json
import os
import re
import time

import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

import conversations
import snippets
import snippets2  # noqa: F401 (adds to snippets.SNIPPETS)

HERE = os.path.dirname(os.path.abspath(__file__))


class Raised(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """The tag marks the assistant's tokens; as text it is a call block that prints its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller):
        return caller()


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = time.strftime
    return env


def case(env, name, template, names, values):
    c = {"name": name, "template": template, "vars": names}
    seen = json.loads(json.dumps(values))  # as a request brings them
    try:
        c["want"] = env.from_string(template).render(**seen)
    except Raised as e:
        c["raises"] = str(e)
    except Exception as e:
        c["fails"] = type(e).__name__
    return c


def main():
    env = environment()
    with open(os.path.join(HERE, "vars.json"), encoding="utf-8") as f:
        sets = json.load(f)
    todo = [(n, s, "snippet") for n, s in snippets.SNIPPETS]
    todo += [(f"{n} / {v}", s, v) for n, s in conversations.TEMPLATES.items()
             for v in conversations.VARS]
    cases = [case(env, n, s, v, sets[v]) for n, s, v in todo]
    cases = [c for c in cases if not re.search(" at 0x[0-9a-f]{6}", c.get("want", ""))]
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as f:
        json.dump({"jinja2": jinja2.__version__, "cases": cases}, f, indent=0, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
