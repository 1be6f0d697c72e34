{
  const request = new XMLHttpRequest();
  request.open("GET", "https://www.google-analytics.com/g/collect?case=$case");
  request.send();
}
