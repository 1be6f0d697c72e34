try { new WebSocket("wss://ws.hotjar.com/api?case=$case"); } catch { /* a guard may refuse loudly */ }
