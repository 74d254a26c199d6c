// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// UnmarshalJSON decodes a policy and notes in Spec.Unknown what it cannot hold.
func (p *NetworkPolicy) UnmarshalJSON(data []byte) error {
	*p = NetworkPolicy{}
	return decode(data, parts{&p.TypeMeta, &p.ObjectMeta, &p.Spec, &p.Status})
}

// UnmarshalJSON decodes a policy and notes in Spec.Unknown what it cannot hold.
func (p *ClusterwideNetworkPolicy) UnmarshalJSON(data []byte) error {
	*p = ClusterwideNetworkPolicy{}
	return decode(data, parts{&p.TypeMeta, &p.ObjectMeta, &p.Spec, &p.Status})
}

// parts are the parts of either kind.
type parts struct {
	types  *metav1.TypeMeta
	meta   *metav1.ObjectMeta
	spec   *Rule
	status *Status
}

func decode(data []byte, into parts) error {
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, into.types); err != nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &fields); err != nil {
		return err
	}
	var unknown []string
	for name, value := range fields {
		var err error
		switch name {
		case "apiVersion", "kind":
		case "metadata":
			err = kjson.UnmarshalCaseSensitivePreserveInts(value, into.meta)
		case "status":
			err = kjson.UnmarshalCaseSensitivePreserveInts(value, into.status)
		case "spec":
			var strict []error
			strict, err = kjson.UnmarshalStrict(value, into.spec)
			for _, s := range strict {
				unknown = append(unknown, path(s))
			}
		default: // specs, a list of further rules
			unknown = append(unknown, name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	slices.Sort(unknown)
	into.spec.Unknown = append(into.spec.Unknown, unknown...)
	return nil
}

// path is the path of the field that a strict decoder complains of.
func path(err error) string {
	if field, ok := errors.AsType[kjson.FieldError](err); ok {
		return "spec." + field.FieldPath()
	}
	return err.Error()
}
