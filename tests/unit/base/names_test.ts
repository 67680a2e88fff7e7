import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { isDnsLabel, isDnsName, isUid, readsAsUid } from "../../../src/base/names.ts";

const RULES = { isDnsLabel, isDnsName, isUid, readsAsUid };

/** The rules that a text keeps. */
function kept(text: string): string[] {
  return Object.entries(RULES).filter(([, keeps]) => keeps(text)).map(([name]) => name);
}

const a = (length: number) => "a".repeat(length);

for (
  const [text, rules] of [
    ["default", ["isDnsLabel", "isDnsName", "isUid"]],
    ["web-0", ["isDnsLabel", "isDnsName", "isUid"]],
    ["node-1.example.com", ["isDnsName"]],
    ["6f1c2d3e-0000-4000-8000-000000000001", ["isDnsLabel", "isDnsName", "isUid", "readsAsUid"]],
    ["6F1C2D3E-0000-4000-8000-000000000001", ["isUid", "readsAsUid"]],
    ["0f8aa2c41ab5c9e09d23ea5d9c1f0b77", ["isDnsLabel", "isDnsName", "isUid", "readsAsUid"]],
    ["Default", ["isUid"]],
    [`g${a(62)}`, ["isDnsLabel", "isDnsName", "isUid"]],
    [`g${a(63)}`, ["isDnsName", "isUid"]],
    [`g${a(128)}`, ["isDnsName"]],
    [`g${a(253)}`, []],
    [a(129), ["isDnsName"]],
    ...["", ".", "..", "-a", "a..b", "a.", ".a", "a/b", "a_b", "a b", "a\n", "--flag", "ä", ".retained"]
      .map((text) => [text, []] as const),
    ["a-", ["isUid"]],
  ] as const
) {
  Deno.test(`${JSON.stringify(text.slice(0, 40))} (${text.length}) is ${rules.join(", ") || "no name"}`, () => {
    assertEquals(kept(text), rules);
  });
}
