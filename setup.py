"""Builds the compiled engine; everything else is in pyproject.toml.

MANYSTACK_DEBUG=1 builds with assertions and one exact-size allocation for each packet.
MANYSTACK_SANITIZE=address,undefined builds with those sanitizers (and the debug allocations).
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

sanitizers = os.environ.get("MANYSTACK_SANITIZE", "")
debug = os.environ.get("MANYSTACK_DEBUG", "") == "1" or bool(sanitizers)

# A fixed baseline and no contraction: a run must not depend on the machine that compiled it.
compile_flags = ["-std=gnu11", "-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv"]
compile_flags += ["-Wno-unused-function", "-Wno-unreachable-code", "-Wno-sign-compare"]
link_flags = []
if debug:
    compile_flags += ["-O1", "-g", "-DMANYSTACK_DEBUG=1"]
else:
    compile_flags += ["-O3"]
if sanitizers:
    compile_flags += [
        f"-fsanitize={sanitizers}",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
    ]
    link_flags += [f"-fsanitize={sanitizers}"]
if sys.platform != "linux":
    sys.exit("manystack: the engine uses Linux interfaces (epoll, eventfd, TUN/TAP); build it on Linux")

setup(
    ext_modules=cythonize(
        [
            Extension(
                "manystack.core._switch",
                ["manystack/core/_switch.pyx"],
                extra_compile_args=compile_flags,
                extra_link_args=link_flags,
            )
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": False,
        },
        annotate=os.environ.get("MANYSTACK_ANNOTATE", "") == "1",
        build_dir="build/cython",
    )
)
