// Labels that the theme leaves out or doubles, for screen readers. Its icons may be drawn already, or not yet.
for (const icon of document.querySelectorAll(".theme-switch-button i")) icon.removeAttribute("title");
for (const icon of document.querySelectorAll(".theme-switch-button svg")) {
  icon.querySelector("title")?.remove();
  icon.setAttribute("aria-hidden", "true");
}
// What these say on their face ("Search Ctrl+K", "Show code cell source") is better than the label that hides it.
for (const element of document.querySelectorAll(".search-button-field, details > summary")) element.removeAttribute("aria-label");
// An arrow in the contents says nothing by itself.
for (const arrow of document.querySelectorAll(".bd-sidenav details > summary"))
  arrow.setAttribute("aria-label", `Pages of ${arrow.closest("li").querySelector("a").textContent.trim()}`);
// A figure opens alone on a click, to be enlarged on a phone.
for (const image of document.querySelectorAll(".bd-article .cell_output img, .bd-article figure img")) {
  if (image.closest("a")) continue;
  const link = document.createElement("a");
  link.href = image.src;
  link.className = "enlarge";
  image.replaceWith(link);
  link.append(image);
}
// The children of these are entries of a bibliography and no list items, which a list may not have.
for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role");
