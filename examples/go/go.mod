module example.org/tensors

go 1.21
