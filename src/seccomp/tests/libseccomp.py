#!/usr/bin/env python3
"""Has libseccomp make filters, for tests/libseccomp.rs. A line a command, a line an answer:

  filter DEFAULT OPTIMIZE TOKEN...    begins a filter for these architectures
  rule ACTION NAME [INDEX OP VALUE VALUE_TWO]...
                                      adds a rule: ok, unknown, or its error
  export                              gives the program in hexadecimal, and ends the filter
  resolve TOKEN NAME                  gives the number of a system call; negative if there is none
"""

import ctypes
import os
import sys

library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = [ctypes.c_uint32]
for name, arguments in {
    "seccomp_api_set": [ctypes.c_uint],
    "seccomp_attr_set": [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32],
    "seccomp_arch_add": [ctypes.c_void_p, ctypes.c_uint32],
    "seccomp_arch_remove": [ctypes.c_void_p, ctypes.c_uint32],
    "seccomp_export_bpf": [ctypes.c_void_p, ctypes.c_int],
    "seccomp_syscall_resolve_name": [ctypes.c_char_p],
    "seccomp_syscall_resolve_name_arch": [ctypes.c_uint32, ctypes.c_char_p],
}.items():
    getattr(library, name).argtypes = arguments
library.seccomp_arch_native.restype = ctypes.c_uint32
library.seccomp_release.argtypes = [ctypes.c_void_p]
library.seccomp_release.restype = None

ERROR = -1  # __NR_SCMP_ERROR
OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE


class Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


library.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Comparison),
]


def check(what, result):
    if result != 0:
        sys.exit(f"{what} = {result}")


# All actions, whatever the kernel is here.
check("seccomp_api_set", library.seccomp_api_set(5))
context = None
for line in sys.stdin:
    command, *words = line.split()
    answer = "ok"
    if command == "filter":
        default, optimize, *tokens = (int(word) for word in words)
        context = library.seccomp_init(default)
        if not context:
            sys.exit(f"seccomp_init({default:#x}) failed")
        native = library.seccomp_arch_native()
        for token in tokens:
            if token != native:
                check("seccomp_arch_add", library.seccomp_arch_add(context, token))
        if native not in tokens:
            check("seccomp_arch_remove", library.seccomp_arch_remove(context, native))
        check("seccomp_attr_set", library.seccomp_attr_set(context, OPTIMIZE, optimize))
    elif command == "rule":
        action, name, *rest = words
        number = library.seccomp_syscall_resolve_name(name.encode())
        values = [int(word) for word in rest]
        comparisons = (Comparison * (len(values) // 4))(
            *(Comparison(*values[at : at + 4]) for at in range(0, len(values), 4))
        )
        if number == ERROR:
            answer = "unknown"
        else:
            result = library.seccomp_rule_add_array(
                context, int(action), number, len(comparisons), comparisons
            )
            answer = "ok" if result == 0 else f"error {result}"
    elif command == "export":
        file = os.memfd_create("program")
        check("seccomp_export_bpf", library.seccomp_export_bpf(context, file))
        answer = os.pread(file, 1 << 20, 0).hex()
        os.close(file)
        library.seccomp_release(context)
    elif command == "resolve":
        token, name = words
        answer = str(library.seccomp_syscall_resolve_name_arch(int(token), name.encode()))
    print(answer, flush=True)
