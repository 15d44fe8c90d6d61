// Labels that the theme leaves out or doubles, for screen readers. Its icons may be drawn already, or not yet.
for (const icon of document.querySelectorAll(".theme-switch-button i")) icon.removeAttribute("title");
for (const title of document.querySelectorAll(".theme-switch-button svg title")) title.remove();
// The button says "Search Ctrl+K" on its face; a label of its own would hide the keys.
for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
