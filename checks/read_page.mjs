// What is looked for in one page. `readPage` runs inside the browser and so refers to nothing outside itself.

export async function readPage(scheme) {
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
    if (element.closest("mjx-container mjx-container, mjx-assistive-mml, .headerlink, .sr-only, .visually-hidden")) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.right <= width + 1) continue;
    let holder = element.parentElement;
    while (holder && !scrolls(holder)) holder = holder.parentElement;
    // The outermost element that sticks out says it for those inside it.
    const parent = element.parentElement.getBoundingClientRect();
    if ((!holder || holder === document.documentElement || holder === document.body) && parent.right <= width + 1)
      found("width", `${name(element)} reaches ${Math.round(box.right - width)} px beyond the edge`);
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
