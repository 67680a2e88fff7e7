/**
 * Runs the controller on a kernel that has no IPv6: every socket(AF_INET6) fails with EAFNOSUPPORT, as with `ipv6.disable=1` on the
 * kernel's command line. A seccomp filter does it, because a network namespace cannot.
 */
const X86_64 = Deno.build.arch === "x86_64";
const SOCKET = X86_64 ? 41 : 198;
const AF_INET6 = 10;
const EAFNOSUPPORT = 97;
const [PR_SET_SECCOMP, SECCOMP_MODE_FILTER] = [22, 2];
// linux/bpf_common.h, linux/seccomp.h: load the call's number; another: allow; load its first argument; another: allow; fail.
const [LOAD, JUMP_IF_EQUAL, RETURN] = [0x20, 0x15, 0x06];
const [NUMBER, FIRST_ARGUMENT] = [0, 16];
const [ALLOW, ERRNO] = [0x7fff0000, 0x00050000];
const instructions: [code: number, ifTrue: number, ifFalse: number, k: number][] = [
  [LOAD, 0, 0, NUMBER],
  [JUMP_IF_EQUAL, 0, 3, SOCKET],
  [LOAD, 0, 0, FIRST_ARGUMENT],
  [JUMP_IF_EQUAL, 0, 1, AF_INET6],
  [RETURN, 0, 0, ERRNO | EAFNOSUPPORT],
  [RETURN, 0, 0, ALLOW],
];

const filter = new Uint8Array(instructions.length * 8);
for (const [i, [code, ifTrue, ifFalse, k]] of instructions.entries()) {
  const view = new DataView(filter.buffer, i * 8);
  view.setUint16(0, code, true);
  view.setUint8(2, ifTrue);
  view.setUint8(3, ifFalse);
  view.setUint32(4, k, true);
}
// struct sock_fprog
const program = new Uint8Array(16);
new DataView(program.buffer).setUint16(0, instructions.length, true);
new DataView(program.buffer).setBigUint64(8, BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(filter))), true);

const libc = Deno.dlopen("libc.so.6", {
  prctl: { parameters: ["i32", "u64", "buffer", "u64", "u64"], result: "i32" },
});
if (libc.symbols.prctl(PR_SET_SECCOMP, BigInt(SECCOMP_MODE_FILTER), program, 0n, 0n) !== 0) {
  throw new Error("Cannot set the seccomp filter: it takes CAP_SYS_ADMIN");
}
// Threads that Deno has already are without it: what is opened later, or by this one, is not.
await import("../../../src/main.ts");
