import assert from "node:assert/strict";
import fc from "fast-check";
import { cutToBytes, eventName, noteOf } from "../../../src/pods/event_object.ts";

const size = (text: string) => new TextEncoder().encode(text).length;

Deno.test("cutToBytes() leaves what fits and cuts the rest between two characters", () => {
  assert.equal(cutToBytes("short", 1024), "short");
  assert.equal(cutToBytes("x".repeat(1024), 1024), "x".repeat(1024));
  assert.equal(cutToBytes("x".repeat(1025), 1024), "x".repeat(1021) + "…");
  // Characters of 1 to 4 bytes, and half a pair.
  const text = fc.array(fc.constantFrom("a", "\0", "é", "€", "🦈", "\ud83e")).map((characters) => characters.join(""));
  fc.assert(fc.property(text, fc.integer({ min: 8, max: 40 }), (text, bytes) => {
    const cut = cutToBytes(text, bytes);
    assert.ok(size(cut) <= bytes);
    assert.ok(cut.isWellFormed());
    if (size(text) <= bytes) assert.equal(cut, text.toWellFormed());
    else {
      assert.ok(cut.endsWith("…") && text.toWellFormed().startsWith(cut.slice(0, -1)));
      assert.ok(size(cut) > bytes - 4, "not more is cut than has to be");
    }
  }));
});

Deno.test("noteOf() makes one printable line of at most 1024 bytes of any text", () => {
  assert.equal(noteOf("udp port 53\nok \u001b[31m\u202eeth0"), "udp port 53\\nok \\x1b[31m\\u202eeth0");
  const text = fc.string({ unit: "binary", maxLength: 2000, size: "max" });
  fc.assert(fc.property(text, (text) => {
    assert.doesNotMatch(noteOf(text), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
    assert.ok(size(noteOf(text)) <= 1024);
  }));
});

Deno.test("eventName() is a valid name for every pod's name, and another each time", () => {
  // apimachinery pkg/util/validation: DNS-1123 subdomain
  const valid = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
  const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$/);
  const name = fc.array(label, { minLength: 1, maxLength: 12 }).map((labels) => labels.join("."));
  fc.assert(fc.property(name.filter((one) => one.length <= 253), (pod) => {
    const event = eventName(pod);
    assert.match(event, valid);
    assert.ok(event.length <= 253);
    assert.ok(event.startsWith(pod.slice(0, 200).replace(/[-.]+$/, "")));
    assert.notEqual(event, eventName(pod));
  }));
  assert.match(eventName("a".repeat(235) + "-".repeat(17) + "a"), valid);
  assert.match(eventName("a".repeat(234) + ".-.-.".repeat(3) + "a"), valid);
});
