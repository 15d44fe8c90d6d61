// Filters of the scoreboard: which claims are shown. They stand in the address, so that a choice can be linked; a button
// that would show nothing is disabled. Without this script every claim is shown.
document.addEventListener("DOMContentLoaded", () => {
  const bar = document.querySelector(".scoreboard-filters");
  if (!bar) return;
  const groups = [...document.querySelectorAll("section.scoreboard")];
  const items = groups.flatMap((group) => [...group.querySelectorAll("li[data-status]")]);
  const buttons = [...bar.querySelectorAll("button")];
  const chosen = { question: "all", status: "all" };

  const shown = (choice) =>
    items.filter((item) => Object.keys(choice).every((key) => ["all", item.dataset[key]].includes(choice[key])));

  function show() {
    const visible = new Set(shown(chosen));
    for (const item of items) item.hidden = !visible.has(item);
    for (const group of groups) group.hidden = !items.some((item) => group.contains(item) && !item.hidden);
    for (const button of buttons) {
      const { filter, value } = button.dataset;
      button.setAttribute("aria-pressed", String(chosen[filter] === value));
      button.disabled = !shown({ ...chosen, [filter]: value }).length;
    }
    bar.querySelector("[role=status]").textContent = `${visible.size} of ${items.length} claims shown`;
  }

  function remember() {
    const query = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value !== "all")).toString();
    history.replaceState(null, "", location.pathname + (query && `?${query}`) + location.hash);
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen[button.dataset.filter] = button.dataset.value;
      show();
      remember();
    });
  }

  // A claim that is linked opens, whatever the filters say.
  function open() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target || target.tagName !== "DETAILS") return;
    target.open = true;
    if (target.closest("[hidden]")) {
      Object.assign(chosen, { question: "all", status: "all" });
      show();
      remember();
      target.scrollIntoView();
    }
  }

  for (const [key, value] of new URLSearchParams(location.search))
    if (buttons.some((button) => button.dataset.filter === key && button.dataset.value === value)) chosen[key] = value;
  if (!shown(chosen).length) chosen.status = "all";
  window.addEventListener("hashchange", open);
  bar.hidden = false;
  show();
  open();
});
