// Applies the stored theme before the first paint; the default is the system's theme.
try {
  const theme = localStorage.getItem("gpt1.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  /* storage may be disabled: use the system's theme */
}
