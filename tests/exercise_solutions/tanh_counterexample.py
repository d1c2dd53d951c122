def answer(c):
    # tanh(c h) + 1 rises from 1 to 2 and grows flat: f is concave far out
    return -1.0, 0.0, 4 / c, 0.5
