//go:build tools

// Package tools pins the runc that containerd runs with.
package tools

import _ "github.com/opencontainers/runc"
