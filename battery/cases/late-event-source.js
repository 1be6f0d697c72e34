new EventSource("https://in.hotjar.com/events?case=$case").onerror = event => event.target.close();
