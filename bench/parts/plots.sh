plots() { :; }
