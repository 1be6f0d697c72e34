{
  const frame = document.createElement("iframe");
  frame.src = "https://www.youtube.com/embed/y?case=$case";
  document.body.append(frame);
}
