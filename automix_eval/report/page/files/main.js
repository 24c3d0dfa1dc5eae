// The static page is complete without this script; the script makes it answer.

document.documentElement.dataset.script = "on";
startTheme();
startTables();
startPanels();
startPrinting();
startCharts();
document.addEventListener("DOMContentLoaded", startExplorer);
