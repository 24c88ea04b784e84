#!/usr/bin/env python3
"""Finds coroutine spellings that g++ 12 compiles wrongly (docs/development.md, "Coroutines").

 1. co_await inside an if/while/for condition with a call that has arguments (temporaries of the condition die twice).
    `if (T v = co_await ...; test)` is fine.
 2. a braced temporary among the arguments of an awaited call: co_await f(Agg{...}) is destroyed twice.
 3. a lambda with captures that is itself a coroutine: its captures dangle when the lambda object goes away.
 4. co_await in a branch of ?: (the result is copied byte by byte, or is destroyed without having been made).
"""
import pathlib
import re
import subprocess
import sys

CONDITION = re.compile(r"\b(?:if|while|switch)\s*\(")
AWAITED_CALL = re.compile(r"co_await\b[^;]*\([^)]+", re.S)
BRACED = re.compile(r"co_await\s+[\w.:>\-]+\((?:[^;()]|\([^;()]*\))*?\b[A-Z]\w*\s*\{[^;{}]*[^;{}\s][^;{}]*\}", re.S)
CONDITIONAL = re.compile(r"\?[^;{}?]*\bco_await\b", re.S)
LAMBDA = re.compile(r"\[[^\]\s][^\]]*\]\s*(?:\([^)]*\))?\s*(?:mutable\s*)?->\s*(?:Task|Async)\b")


def strip(text):
    """Blanks out comments and strings, keeping line numbers."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def in_parentheses(text, start):
    """What stands between the parenthesis that opens right before `start` and its partner."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i]
    return text[start:]


def bad_conditions(text):
    for match in CONDITION.finditer(text):
        # Behind the last semicolon stands the test; what is before it is a declaration, which is fine.
        test = in_parentheses(text, match.end()).rpartition(";")[2]
        if AWAITED_CALL.search(test):
            yield match


def main():
    bad = []
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cpp"],
                           check=True, capture_output=True, text=True).stdout.split()
    for name in files:
        text = strip(pathlib.Path(name).read_text())
        if "co_await" not in text and "co_return" not in text:
            continue
        for matches, why in ((bad_conditions(text), "co_await with arguments in a condition"),
                             (BRACED.finditer(text), "braced temporary in an awaited call"),
                             (CONDITIONAL.finditer(text), "co_await in a branch of ?:"),
                             (LAMBDA.finditer(text), "coroutine lambda with captures")):
            for match in matches:
                line = text.count("\n", 0, match.start()) + 1
                bad.append(f"{name}:{line}: {why}")
    print("\n".join(bad), file=sys.stderr, end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
