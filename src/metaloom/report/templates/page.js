// Printing shows every episode, not only the open ones.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

// Of what is wider than the window a reader has to see that it goes on.
function hint(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle("sideways", hidden > 1);
  box.classList.toggle("more", hidden - box.scrollLeft > 1);
}
const resized = new ResizeObserver((entries) => entries.forEach((entry) => hint(entry.target)));
for (const box of document.querySelectorAll(".scroll, pre")) {
  resized.observe(box);
  box.addEventListener("scroll", () => hint(box), { passive: true });
}
