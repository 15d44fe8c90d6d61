// Filters of the scoreboard: which claims are shown. Without this script every claim is.
document.addEventListener("DOMContentLoaded", () => {
  const bar = document.querySelector(".scoreboard-filters");
  if (!bar) return;
  const items = [...document.querySelectorAll(".scoreboard > li")];
  const buttons = [...bar.querySelectorAll("button")];
  const chosen = { profile: "real", status: "all", section: "all" };

  function show() {
    let count = 0;
    for (const item of items) {
      const status = item.dataset[chosen.profile];
      const visible =
        (chosen.status === "all" || status === chosen.status) &&
        (chosen.section === "all" || item.dataset.section === chosen.section);
      item.hidden = !visible;
      count += visible;
    }
    bar.querySelector("[role=status]").textContent = `${count} of ${items.length} claims shown`;
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen[button.dataset.filter] = button.dataset.value;
      for (const other of buttons)
        if (other.dataset.filter === button.dataset.filter)
          other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }

  function open() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  window.addEventListener("hashchange", open);
  bar.hidden = false;
  open();
  show();
});
