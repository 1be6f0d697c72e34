import "meter";
