document.write('<script src="https://www.google-analytics.com/ga.js?case=$case"><\/script>');
