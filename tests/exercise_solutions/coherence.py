import numpy as np


def answer(W):
    D = W / np.linalg.norm(W, axis=0)
    mu = np.abs((D.T @ D)[~np.eye(W.shape[1], dtype=bool)]).max()
    return mu, np.ceil((1 + 1 / mu) / 2) - 1
