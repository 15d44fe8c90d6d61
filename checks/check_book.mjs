// Opens every page of the built book in headless Chromium, wide and narrow, light and dark, and reports what a
// reader would trip over. Every request that is not to the local server is blocked and reported, so a pass is also
// the proof that the book reads without a network.
//   node check_book.mjs [html folder] [--screenshots folder] [--only part-of-a-page's-path]
import { createServer } from "node:http";
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, extname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { brokenLinks, readPage } from "./read_page.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const WIDTHS = { 1440: 900, 390: 844 };
const SCHEMES = ["light", "dark"];
const TYPES = {
  ".css": "text/css", ".csv": "text/csv", ".gif": "image/gif", ".html": "text/html", ".ico": "image/x-icon",
  ".jpg": "image/jpeg", ".js": "text/javascript", ".json": "application/json", ".png": "image/png",
  ".svg": "image/svg+xml", ".txt": "text/plain", ".woff": "font/woff", ".woff2": "font/woff2",
};
// Pages that answer a question with a figure, which stands on their first screen.
const TOPICS = /^book\/(images|image_size|where_is_scale_read|least_squares|pruning|magnification|early_layers)\.html$/;
// Which of axe's findings fail the check.
const IMPACTS = new Set(["serious", "critical"]);

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { screenshots: { type: "string" }, only: { type: "string", default: "" } },
});
const root = resolve(positionals[0] ?? join(HERE, "..", "_build", "html"));
const problems = new Map(); // "page: rule: detail" → the views in which it was seen

const { paths, pages } = await listFiles(root);
if (!pages.length) {
  console.error(`check_book: no page to check.\nReceived: ${root}\nBuild the book first: make book`);
  process.exit(2);
}
const server = await serve(root);
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await launch();
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const seen = new Map(); // page → { ids, links }
const started = Date.now();
try {
  for (const [width, height] of Object.entries(WIDTHS)) {
    const context = await browser.newContext({ viewport: { width: Number(width), height } });
    for (const page of pages) await checkPage(context, page, width);
    if (paths.has("search.html") && !options.only) await checkSearch(context, width);
    await context.close();
  }
} finally {
  await browser.close();
  server.close();
}
for (const { page, detail } of brokenLinks(seen, paths)) report(page, "link", detail, "");

for (const [problem, views] of problems) {
  const where = [...views].filter(Boolean).join(", ");
  console.log(where ? `${problem}  [${where}]` : problem);
}
const seconds = ((Date.now() - started) / 1000).toFixed(0);
console.log(
  `check_book: ${pages.length} pages × ${Object.keys(WIDTHS).join(" and ")} px × ${SCHEMES.join(" and ")}: ` +
    `${problems.size} problems in ${seconds} s`,
);
process.exitCode = problems.size ? 1 : 0;

async function checkPage(context, name, width) {
  const page = await context.newPage();
  const view = () => `${width} ${page.scheme ?? SCHEMES[0]}`;
  page.on("console", (message) => {
    // A failed request is reported below, with its address.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      report(name, "console", message.text(), view());
  });
  page.on("pageerror", (error) => report(name, "console", error.message, view()));
  page.on("websocket", (socket) => report(name, "external request", socket.url(), view()));
  page.on("response", (response) => {
    if (response.status() >= 400) report(name, "failed request", `${response.status()} ${path(response.url())}`, view());
  });
  page.on("requestfailed", (request) => {
    // Leaving a page that forwards to another one cancels what it still loads.
    if (request.url().startsWith(origin) && request.failure()?.errorText !== "net::ERR_ABORTED")
      report(name, "failed request", path(request.url()), view());
  });
  await page.route("**/*", (route) => {
    const url = route.request().url();
    if (url.startsWith(`${origin}/`)) return route.continue();
    report(name, "external request", url, view());
    return route.abort();
  });
  for (const scheme of SCHEMES) {
    page.scheme = scheme;
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    if (scheme === SCHEMES[0]) await open(page, name);
    await page.waitForFunction((wanted) => document.documentElement.dataset.theme === wanted, scheme, { timeout: 3000 }).catch(() => {});
    const found = await page.evaluate(readPage, { scheme, topic: TOPICS.test(name) });
    for (const { rule, detail } of found.problems) report(name, rule, detail, view());
    seen.set(name, found);
    if (options.screenshots) await shoot(page, name, `${width}-${scheme}`);
    await accessibility(page, name, view());
  }
  await moves(page, name, width);
  await page.close();
}

async function open(page, name) {
  await page.goto(`${origin}/${name}`, { waitUntil: "load" });
  // The first page forwards to the introduction: wait until it has arrived.
  await page.waitForFunction(() => !document.querySelector("meta[http-equiv=refresh]"));
  await page.waitForLoadState("networkidle");
  await page.evaluate(async () => {
    await window.MathJax?.startup?.promise;
    for (const image of document.images) image.loading = "eager";
    await document.fonts.ready;
  });
}

async function accessibility(page, name, view) {
  await page.evaluate((source) => window.axe ?? (0, eval)(source), axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, help, nodes } of violations) {
    if (!IMPACTS.has(impact)) continue;
    for (const node of nodes) {
      const why = id === "color-contrast" ? node.any[0]?.message.match(/contrast of [\d.]+ \(.*?\)/)?.[0] : help;
      report(name, `axe ${id}`, `${node.target.join(" ")}: ${why ?? help}`, view);
    }
  }
}

// What can be moved: from one end of a slider to the other its words change, those of the numbers below it too.
async function moves(page, name, view) {
  for (const widget of await page.locator(".move").all()) {
    const id = await widget.getAttribute("id");
    const sliders = await widget.locator("input[type=range]").all();
    if (!sliders.length) report(name, "move", `${id} has nothing to move`, view);
    for (const slider of sliders) {
      const said = [];
      for (const key of ["Home", "End"]) {
        await slider.press(key);
        said.push([await slider.getAttribute("aria-valuetext"), await widget.locator(".move-words").textContent()]);
      }
      if (said[0].some((words, i) => words === said[1][i])) report(name, "move", `${id} says the same at both ends: ${said[0]}`, view);
    }
  }
}

// The search index is part of the book: a word of the first page's title must be found.
async function checkSearch(context, width) {
  const page = await context.newPage();
  await page.goto(`${origin}/index.html`);
  const heading = (await page.locator("h1").first().textContent()).replace(/[^\p{L}\s]/gu, "");
  const word = heading.split(/\s+/).sort((a, b) => b.length - a.length)[0];
  await page.goto(`${origin}/search.html?q=${encodeURIComponent(word)}`);
  const hits = page.locator("#search-results li a");
  await hits.first().waitFor({ timeout: 10_000 }).catch(() => report("search.html", "search", `“${word}” is not found`, width));
  await page.close();
}

async function shoot(page, name, suffix) {
  const file = join(resolve(options.screenshots), `${name.replace(/\.html$/, "").replaceAll("/", "_")}-${suffix}.png`);
  await mkdir(dirname(file), { recursive: true });
  await page.screenshot({ path: file, fullPage: true, animations: "disabled" });
}

function report(page, rule, detail, view) {
  const key = `${page}: ${rule}: ${detail.replace(/\s+/g, " ").slice(0, 300)}`;
  if (!problems.has(key)) problems.set(key, new Set());
  problems.get(key).add(view);
}

function path(url) {
  return url.replace(origin, "");
}

async function listFiles(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  const paths = new Set(files.map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/")));
  const pages = [...paths].filter((name) => name.endsWith(".html") && !name.startsWith("_") && name.includes(options.only));
  return { paths, pages: pages.sort() };
}

async function serve(folder) {
  const server = createServer(async (request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    let file = join(folder, name);
    try {
      if ((await stat(file)).isDirectory()) file = join(file, "index.html");
      const body = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return server;
}

async function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  // Names other than the server's do not resolve: whatever escapes the route above fails too.
  const args = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking"];
  // Chromium's sandbox does not start as root, which is what containers run as.
  if (process.getuid?.() === 0) args.push("--no-sandbox");
  try {
    return await chromium.launch({ executablePath, args });
  } catch (error) {
    console.error(
      `check_book: Chromium does not start.\nReceived: CHROMIUM=${executablePath}\n` +
        `Install Chromium, or name it: CHROMIUM=/path/to/chrome make check-book\n${error.message}`,
    );
    process.exit(2);
  }
}
