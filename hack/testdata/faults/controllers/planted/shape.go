// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Wide has too many methods.
type Wide interface { // fault: interfacebloat
	A()
	B()
	C()
	D()
	E()
}

// Many takes too much.
func Many(_, _, _ int, _ string, _ bool, _ error) {} // fault: parameters

var _ = func(_, _, _, _, _, _ int) {} // fault: parameters

func init() { // fault: gochecknoinits
	_ = 1
}

// Branchy has too many branches.
func Branchy(n int) int { // fault: cyclop
	switch n {
	case 1, 2:
		return 2
	case 3:
		return 21
	case 4:
		return 28
	case 5:
		return 35
	case 6:
		return 42
	case 7:
		return 49
	case 8:
		return 56
	case 9:
		return 63
	case 10:
		return 70
	case 11:
		return 77
	case 12:
		return 84
	case 13:
		return 91
	case 14:
		return 98
	case 15:
		return 105
	case 16:
		return 112
	case 17:
		return 119
	case 18:
		return 126
	case 19:
		return 133
	case 20:
		return 140
	}
	return 0
}

// Long has too many statements.
func Long(n int) int { // fault: funlen
	n += 1
	n += 2
	n += 3
	n += 4
	n += 5
	n += 6
	n += 7
	n += 8
	n += 9
	n += 10
	n += 11
	n += 12
	n += 13
	n += 14
	n += 15
	n += 16
	n += 17
	n += 18
	n += 19
	n += 20
	n += 21
	n += 22
	n += 23
	n += 24
	n += 25
	n += 26
	n += 27
	n += 28
	n += 29
	n += 30
	n += 31
	n += 32
	n += 33
	n += 34
	n += 35
	n += 36
	n += 37
	n += 38
	n += 39
	n += 40
	n += 41
	n += 42
	n += 43
	n += 44
	n += 45
	n += 46
	n += 47
	n += 48
	n += 49
	n += 50
	n += 51
	n += 52
	n += 53
	n += 54
	n += 55
	return n
}

// Nested is deep.
func Nested(a, b, c bool) int {
	if a { // fault: nestif
		if b {
			if c {
				return 1
			} else if b {
				return 2
			}
		} else if c {
			return 3
		}
	}
	return 0
}

// Reconciler has no phases.
type Reconciler struct{}

// Reconcile is one line too long.
func (*Reconciler) Reconcile(context.Context, reconcile.Request) (reconcile.Result, error) { // fault: reconcile-length
	n := 0
	n += 1
	n += 2
	n += 3
	n += 4
	n += 5
	n += 6
	n += 7
	n += 8
	n += 9
	n += 10
	n += 11
	n += 12
	n += 13
	n += 14
	n += 15
	n += 16
	n += 17
	n += 18
	n += 19
	n += 20
	n += 21
	n += 22
	n += 23
	n += 24
	n += 25
	n += 26
	n += 27
	n += 28
	n += 29
	n += 30
	n += 31
	n += 32
	n += 33
	n += 34
	n += 35
	n += 36
	n += 37
	n += 38
	n += 39
	return reconcile.Result{Requeue: n > 0}, nil // fault: staticcheck deprecated
}
