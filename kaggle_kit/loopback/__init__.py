"""A Kaggle on 127.0.0.1: it speaks the official client's protocol, so that a whole release can be rehearsed offline."""
