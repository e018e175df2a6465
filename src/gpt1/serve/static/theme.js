// Before the first paint: the chosen theme, where it is not the system's.
try {
  const theme = localStorage.getItem("gpt1.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  /* storage may be forbidden; the system's theme then stands */
}
