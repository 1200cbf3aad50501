"""Train a classifier of long sequences with seqbraid.GRU, the sequences split over ranks."""

import torch
from mpi4py import MPI
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

import seqbraid as sb

comm = MPI.COMM_WORLD
solver = sb.MGRIT(coarsening=16, forward_iterations=2, backward_iterations=2)

torch.manual_seed(0)
T, classes, hidden = 512, 4, 32
labels = torch.randint(classes, (320,))
x = torch.randn(T, 320, classes)  # steps, sequences, features
x[:64] += 2 * one_hot(labels, classes)  # the start tells the class; noise follows
x = x[sb.local_slice(T, comm, solver)]  # this rank's steps
train, test = torch.arange(256), torch.arange(256, 320)


class Classifier(nn.Module):
    """A GRU, and a linear head on its last state."""

    def __init__(self):
        super().__init__()
        self.gru = sb.GRU(classes, hidden, solver=solver, comm=comm)
        self.head = nn.Linear(hidden, classes)
        memory = torch.empty(hidden).uniform_(1, T)  # steps over which each unit remembers, to begin with
        self.gru.bias_hh_l0.data[hidden : 2 * hidden] = memory.log()

    def forward(self, x):
        """Return logits (B, classes) of x (T, B, classes)."""
        _, h_n = self.gru(x)
        return self.head(h_n[-1])


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    losses = []
    for batch in train[torch.randperm(len(train))].split(32):
        loss = cross_entropy(model(x[:, batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        accuracy = (model(x[:, test]).argmax(dim=1) == labels[test]).float().mean()
    if comm.rank == 0:
        print(f"epoch {epoch + 1}  loss {sum(losses) / len(losses):.6f}  test accuracy {accuracy:.3f}")
if comm.rank == 0:
    torch.save(model.state_dict(), "classifier.pt")
