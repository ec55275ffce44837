"""Describes what a library shows to programs: `python abi.py ztensor.h libztensor.so`.

One line for each function with its signature, each constant with its value, each type, and each field of each struct with
its place, size and type; and one for each name that the library exports. Sizes and places are what the C compiler (CC)
finds. Lines are sorted, so that what is lost between two releases is what `comm -23` prints.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    header, library = Path(sys.argv[1]), sys.argv[2]
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    constants = re.findall(r"^#define (ZT_\w+) ", text, re.M)
    declarations = re.sub(r"^#.*$|^extern \"C\" \{$|^\}  // extern \"C\"$", "", text, flags=re.M)
    lines = []
    questions = [f'printf("constant {name} %lld\\n", (long long)({name}));' for name in constants]
    for declaration in statements(declarations):
        struct = re.fullmatch(r"typedef struct \{(.*)\} (\w+)", declaration)
        if struct:
            fields, name = struct[1], struct[2]
            questions.append(f'printf("struct {name} of %zu bytes, aligned to %zu\\n", sizeof({name}), _Alignof({name}));')
            for field in filter(None, map(str.strip, fields.split(";"))):
                word = re.search(r"(\w+)(\[\d+\])?$", field)[1]
                questions.append(
                    f'printf("field {name}.{word} at %zu, %zu bytes: {field}\\n", '
                    f"offsetof({name}, {word}), sizeof((({name} *)0)->{word}));"
                )
        elif declaration.startswith("typedef"):
            lines.append(f"type {declaration.removeprefix('typedef ')}")
        else:
            lines.append(f"function {declaration}")
    lines += answers(header, questions)
    exports = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    lines += [f"export {line.split()[-1]}" for line in exports.splitlines()]
    print("\n".join(sorted(lines)))


def statements(text: str) -> list[str]:
    """The declarations, each on one line with single spaces."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == ";" and depth == 0:
            found.append(" ".join(text[start:at].split()))
            start = at + 1
    return found


def answers(header: Path, questions: list[str]) -> list[str]:
    """What a C program prints that includes the header."""
    program = "\n".join(['#include "ztensor.h"', "#include <stdio.h>", "int main(void) {", *questions, "return 0; }"])
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "ask.c"), Path(folder, "ask")
        source.write_text(program)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-std=c11", f"-I{header.resolve().parent}", source, "-o", binary], check=True)
        return subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    main()
