// Some systems name their locale "en-US@posix", which Intl refuses; uPlot formats numbers in
// navigator.language while it is being imported, and one throw there would stop the whole page.
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en-US", configurable: true });
}
