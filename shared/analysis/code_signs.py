"""By what few signs source code of a language is known. Data only."""

import re
from typing import Final

_SIGNS: Final = (
    (
        "html",
        ("<",),
        r"<!DOCTYPE html|<html|<(?:div|body|head|span|p|a|ul|table)\b[^>\n]{0,200}>",
    ),
    (
        "php",
        ("<?php", "$", "->"),
        r"<\?php|\$\w{1,60} = |\becho \$|->\w{1,60}\(",
    ),
    (
        "dockerfile",
        ("FROM ", "RUN ", "COPY ", "ENTRYPOINT ", "CMD [", "WORKDIR "),
        r"^(?:FROM [\w./:-]+|RUN |COPY |ENTRYPOINT |CMD \[|WORKDIR )",
    ),
    (
        "rust",
        ("fn ", "let mut ", "impl", "println!", "Vec<", "&str", "&mut ", "::new("),
        r"\bfn \w{1,60}|\blet mut |\bimpl\b|println!|\bVec<|&str|&mut |::new\(",
    ),
    (
        "go",
        ("package ", "func ", ":= ", "fmt.", "chan ", "nil"),
        r"^package \w|^func |:= |\bfmt\.|\bchan \w|\bgo func|\bnil\b",
    ),
    (
        "csharp",
        ("using ", "namespace ", "Console.Write", "string[] "),
        r"^using [A-Z][\w.]{0,60};|\bnamespace \w|Console\.Write|\bstring\[\] ",
    ),
    (
        "java",
        ("public ", "System.out", "import java", "@Override", "String[]"),
        r"\bpublic (?:static |final |class |void |int )|System\.out\.|\bimport java|@Override|\bString\[\] ",
    ),
    (
        "kotlin",
        ("fun ", "val ", "data class ", "var "),
        r"\bfun \w{1,60}\(|\bval \w{1,60} ?[:=]|\bdata class |\bvar \w{1,60}: [A-Z]",
    ),
    (
        "swift",
        ("import Foundation", "func ", "let "),
        r"\bimport Foundation|\bfunc \w{1,60}\([^)\n]{0,200}\) -> [A-Z]|\blet \w{1,60} ?[:=]|\bguard let ",
    ),
    (
        "typescript",
        ("interface ", ": string", ": number", ": boolean", "export "),
        r"\binterface \w{1,60} \{|: (?:string|number|boolean)\b|\bexport (?:type|interface|function)",
    ),
    (
        "javascript",
        ("const ", "let ", "var ", "=>", "function", "console.log", "==="),
        r"\b(?:const|let|var) \w{1,60} ?=|=> ?[{(\w]|\bfunction\b ?\w{0,60}\(|console\.log|===",
    ),
    (
        "cpp",
        ("#include", "std::", "template", "->"),
        r"#include <(?:iostream|vector|string|map|memory|algorithm)>|\bstd::|\btemplate ?<|->\w{1,60}\(",
    ),
    (
        "c",
        ("#include", "int ", "printf(", "malloc(", "char *", "NULL"),
        r"#include <\w{1,40}\.h>|\bint main\(|\bprintf\(|\bmalloc\(|\bchar \*|\bNULL\b|^int \*?\w",
    ),
    (
        "ruby",
        ("def ", "end\n", "puts ", "require '", "@"),
        r"^[ \t]{0,40}+def \w{1,60}+[^:\n]{0,100}+$|^[ \t]{0,40}+end$|\bputs |\brequire '|@\w{1,60} = ",
    ),
    (
        "bash",
        ("#!/", "set -e", "$", "fi\n", "done\n", "esac", "echo ", "; then", "; do"),
        r"^#!/bin/(?:ba)?sh|^set -e|\$\{?\w{1,60}\}?\"|\b(?:fi|done|esac)$|\becho \"|; (?:then|do)$",
    ),
    (
        "r",
        ("<- ", "library(", "data.frame("),
        r"<- (?:function|c\(|data|\w)|\blibrary\(|\bdata\.frame\(",
    ),
    (
        "css",
        ("{\n", ";\n"),
        r"^[.#]?[\w-]{1,60}+(?:[ .:>][\w.#: >-]{0,80})? \{$|^[ \t]{0,40}+[a-z-]{2,30}+: [^;\n]{1,100}+;$",
    ),
    (
        "yaml",
        (":",),
        r"^[ \t]{0,40}+[\w.-]{1,60}+:(?: [^;{}\n]{1,200}+)?$|^[ \t]{0,40}+- [\w-]{1,60}+:",
    ),
    (
        "python",
        ("def ", "import ", "from ", "self.", "print(", ":\n"),
        (
            r"^[ \t]{0,40}+def \w{1,60}+\([^\n]{0,200}:|^(?:import|from) [\w.]{1,60}|\bself\.|\bprint\("
            r"|^[ \t]{0,40}+(?:if|for|while|elif|with|try|except|class)\b[^\n{]{0,200}:$"
        ),
    ),
)
CODE_SIGNS: Final = tuple(
    (language, needles, re.compile(pattern, re.MULTILINE)) for language, needles, pattern in _SIGNS
)
"""Language; literals, one of which every sign contains; the signs. In order: at a tie the earlier language wins."""
