// What is looked for in one page. `readPage` runs inside the browser and so refers to nothing outside itself.

export async function readPage({ scheme, topic }) {
  const problems = [];
  const found = (rule, detail) => problems.push({ rule, detail });
  const name = (element) =>
    element.tagName.toLowerCase() +
    (element.id ? `#${element.id}` : "") +
    [...element.classList].slice(0, 3).map((word) => `.${word}`).join("");

  const theme = document.documentElement.dataset.theme;
  if (theme && theme !== scheme) found("scheme", `the page shows ${theme} where ${scheme} was asked for`);
  if (!document.documentElement.lang) found("language", "html has no lang");
  if (!document.title.trim()) found("title", "the page has no title");

  for (const image of document.images) {
    const source = image.getAttribute("src")?.slice(0, 120);
    await image.decode().catch(() => found("image", `does not decode: ${source}`));
    const decorative = image.closest("[aria-hidden=true], [role=presentation]");
    const alt = image.getAttribute("alt")?.trim();
    if (!decorative && !alt) found("alt", `no alternative text: ${source}`);
    else if (alt && /_images\/|\.(png|svg|jpe?g)$/i.test(alt)) found("alt", `a file name is no text: ${alt}`);
  }

  for (const math of document.querySelectorAll(".math"))
    if (!math.querySelector("mjx-container")) found("mathematics", `not rendered: ${math.textContent.slice(0, 80)}`);
  for (const error of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    found("mathematics", error.getAttribute("data-mjx-error") ?? error.textContent);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    if (text.parentElement.closest("script, style, pre, mjx-container")) continue;
    const role = text.data.match(/\{(glue|doc|ref|numref|cite|results|math|eval)(:\w+)?\}/);
    if (role) found("markup", `left as source: ${text.data.slice(role.index, role.index + 80)}`);
    if (text.parentElement.closest("code")) continue;
    const raw = text.data.match(/\\[([]|\$\$|\$\\/);
    if (raw) found("mathematics", `left as source: ${text.data.slice(raw.index, raw.index + 80)}`);
  }

  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth > width)
    found("width", `the page is ${document.scrollingElement.scrollWidth - width} px too wide`);
  const scrolls = (element) => /auto|scroll/.test(getComputedStyle(element).overflowX);
  for (const element of document.querySelectorAll("main article *")) {
    if (element.closest("svg *, mjx-container mjx-container, mjx-assistive-mml, .headerlink, .sr-only, .visually-hidden")) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.right <= width + 1) continue;
    let holder = element.parentElement;
    while (holder && !scrolls(holder)) holder = holder.parentElement;
    // The outermost element that sticks out says it for those inside it.
    const parent = element.parentElement.getBoundingClientRect();
    if ((!holder || holder === document.documentElement || holder === document.body) && parent.right <= width + 1)
      found("width", `${name(element)} reaches ${Math.round(box.right - width)} px beyond the edge`);
  }

  // Wide enough for all: nothing is cut off, in what is folded away neither, and a topic's figure is on its first screen.
  const inside = (element, holder) => {
    while (holder && !scrolls(holder) && holder.localName !== "article") holder = holder.parentElement;
    return holder ? element.scrollWidth - holder.clientWidth : 0;
  };
  const folded = [...document.querySelectorAll("main details:not([open])")];
  if (width > 1200) {
    const first = document.querySelector("main figure, main .key-figure, main .cell_output img");
    const top = first ? first.getBoundingClientRect().top + scrollY : Infinity;
    if (topic && top > 900) found("first screen", first ? `the first figure begins at ${Math.round(top)} px` : "no figure");
    for (const fold of folded) fold.open = true;
    for (const table of document.querySelectorAll("main article table")) {
      const over = inside(table, table.parentElement);
      const head = table.innerText.trim().split(/\n/)[0].slice(0, 60);
      if (over > 1) found("table", `${name(table)} “${head}” is ${over} px wider than its column`);
    }
    for (const code of document.querySelectorAll("main article pre")) {
      const longest = code.innerText.split("\n").reduce((one, other) => (other.length > one.length ? other : one), "");
      const over = inside(code, code);
      if (over > 1) found("code", `cut off at the right by ${over} px: ${longest.trim().slice(0, 60)}`);
    }
    for (const fold of folded) fold.open = false;
  } else {
    for (const text of document.querySelectorAll("main svg text")) {
      const matrix = text.getScreenCTM();
      const size = matrix && text.getClientRects().length ? Math.hypot(matrix.a, matrix.b) * parseFloat(getComputedStyle(text).fontSize) : 9;
      if (size < 8.95) found("small text", `${size.toFixed(1)} px in a figure: ${text.textContent.trim().slice(0, 40)}`);
    }
  }

  const ids = [...document.querySelectorAll("[id], a[name]")].map((element) => element.id || element.name);
  const counts = new Map();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const [id, count] of counts)
    if (count > 1 && document.querySelector(`main [id="${CSS.escape(id)}"]`)) found("anchor", `id ${id} stands ${count} times`);
  const links = [...document.querySelectorAll("a[href]")]
    .filter((link) => link.origin === location.origin)
    .map((link) => ({ path: link.pathname, fragment: link.hash, written: link.getAttribute("href") }));
  return { problems, ids, links };
}

// Internal links that lead nowhere. `seen`: page → what readPage found; `paths`: every file of the book.
export function brokenLinks(seen, paths) {
  const broken = [];
  for (const [page, { links }] of seen) {
    for (const { path, fragment, written } of links) {
      let target = decodeURIComponent(path).slice(1);
      if (target === "" || target.endsWith("/")) target += "index.html";
      if (!paths.has(target)) broken.push({ page, detail: `${written} leads to no file` });
      // The empty fragment and #top mean the top of the page in every browser.
      else if (!["", "#", "#top"].includes(fragment) && seen.has(target)) {
        const anchor = decodeURIComponent(fragment.slice(1));
        if (!seen.get(target).ids.includes(anchor)) broken.push({ page, detail: `${written} has no such anchor` });
      }
    }
  }
  return broken;
}
