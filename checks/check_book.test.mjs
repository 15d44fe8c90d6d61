// The checker itself: on a page with one of everything, each rule speaks, and nothing else does.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const check = (...args) =>
  spawnSync(process.execPath, [join(HERE, "check_book.mjs"), ...args], { encoding: "utf8", timeout: 120_000 });

test("every planted defect is found, in the views that show it", () => {
  const { status, stdout } = check(join(HERE, "planted"));
  assert.equal(status, 1, stdout);
  const all = "390 light, 390 dark, 1440 light, 1440 dark";
  const once = "390 light, 1440 light"; // seen while the page loads
  for (const [problem, views] of [
    ["external request: https://unpkg.com/thebe@0.8.2/lib/index.js", once],
    ["external request: wss://example.org/socket", once],
    ["console: planted", once],
    ["console: Cannot read properties of undefined (reading 'call')", once],
    ["failed request: 404 /missing.png", once],
    ["image: does not decode: missing.png", all],
    ["alt: a file name is no text: ../_images/0f3a.png", all],
    ["mathematics: not rendered: x^2", all],
    ["mathematics: left as source: \\(x^2\\)", all],
    ["markup: left as source: {glue:text}`peak_r2`", all],
    ["anchor: id twice stands 2 times", all],
    ["language: html has no lang", all],
    ["title: the page has no title", all],
  ])
    assert.ok(stdout.includes(`index.html: ${problem}`) && line(stdout, problem).endsWith(`[${views}]`), `${problem}\n${stdout}`);
  assert.match(stdout, /alt: no alternative text: data:image/);
  assert.match(stdout, /axe color-contrast: .*contrast of/);
  assert.match(stdout, /width: the page is \d+ px too wide {2}\[390 light, 390 dark\]/);
  assert.match(stdout, /link: nowhere.html leads to no file/);
  assert.match(stdout, /link: #nobody has no such anchor/);
  assert.doesNotMatch(stdout, /link: #twice/);
  assert.match(stdout, /move: stuck says the same at both ends: 2,R² 0.5 {2}\[390, 1440\]/);
  assert.match(stdout, /move: empty has nothing to move {2}\[390, 1440\]/);
});

test("what is cut off, too small or too far down is found at the width where it matters", () => {
  const { stdout } = check(join(HERE, "planted"), "--only", "book/");
  for (const [problem, width] of [
    ["images.html: first screen: the first figure begins at 1\\d{3} px", 1440],
    ["pruning.html: first screen: no figure", 1440],
    ["images.html: table: table.wide “.*” is \\d+ px wider than its column", 1440],
    ["images.html: table: table.folded “.*” is \\d+ px wider than its column", 1440],
    ["images.html: code: cut off at the right by \\d+ px: a line .*", 1440],
    ["images.html: small text: 3.\\d px in a figure: small", 390],
  ])
    assert.match(stdout, new RegExp(`^book/${problem} {2}\\[${width} light, ${width} dark\\]$`, "m"));
  assert.doesNotMatch(stdout, /table.fits|in a figure: large|reaches/);
});

test("a folder without a page is refused by name", () => {
  const { status, stderr } = check(join(HERE, "no-such-book"));
  assert.equal(status, 2);
  assert.match(stderr, /no page to check\.\nReceived: .*no-such-book\nBuild the book first: make book/);
});

function line(text, part) {
  return text.split("\n").find((found) => found.includes(part)) ?? "";
}
