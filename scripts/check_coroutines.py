#!/usr/bin/env python3
"""Finds coroutine spellings that g++ 12 compiles wrongly (docs/development.md, "Coroutines").

 1. co_await inside an if/while/for condition with a call that has arguments (temporaries of the condition die twice).
    `if (T v = co_await ...; test)` is fine.
 2. a braced temporary among the arguments of an awaited call: co_await f(Agg{...}) is destroyed twice.
 3. a lambda with captures that is itself a coroutine: its captures dangle when the lambda object goes away.
"""
import pathlib
import re
import subprocess
import sys

CONDITION = re.compile(r"\b(?:if|while|switch)\s*\(([^;{]*?)co_await\b[^;{]*\([^;{)]+", re.S)
BRACED = re.compile(r"co_await\s+[\w.:>\-]+\((?:[^;()]|\([^;()]*\))*?\b[A-Z]\w*\s*\{[^;{}]*[^;{}\s][^;{}]*\}", re.S)
LAMBDA = re.compile(r"\[[^\]\s][^\]]*\]\s*(?:\([^)]*\))?\s*(?:mutable\s*)?->\s*(?:Task|Async)\b")


def strip(text):
    """Blanks out comments and strings, keeping line numbers."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def main():
    bad = []
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cpp"],
                           check=True, capture_output=True, text=True).stdout.split()
    for name in files:
        text = strip(pathlib.Path(name).read_text())
        if "co_await" not in text and "co_return" not in text:
            continue
        for pattern, why in ((CONDITION, "co_await with arguments in a condition"),
                             (BRACED, "braced temporary in an awaited call"),
                             (LAMBDA, "coroutine lambda with captures")):
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                bad.append(f"{name}:{line}: {why}")
    print("\n".join(bad), file=sys.stderr, end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
