def answer(b, y, on, off, p):
    return p[on] @ (b - y)[on] + p[off] @ b[off] - p[on] @ p[on] / 2
