// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package site

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Server is where an operator finds the API server, and the certificate of who signed for it.
type Server struct {
	URL string
	CA  []byte
}

// Operator is one process of the program that ships, as its ServiceAccount and with the flags of config/manager.
type Operator struct {
	// Credential tells its requests from those of others in the audit log.
	Credential string

	cmd             *exec.Cmd
	log             string // path
	metrics, health string // addresses on loopback
	done            chan struct{}
}

// Launch starts an operator; nil for the API server itself. It may not be ready yet.
func (s *Site) Launch(ctx context.Context, server *Server) (*Operator, error) {
	if server == nil {
		server = &Server{URL: s.Cluster.ServerURL(), CA: s.Cluster.CAData()}
	}
	s.mu.Lock()
	s.count++
	name := filepath.Join(s.dir, fmt.Sprintf("operator-%d", s.count))
	s.mu.Unlock()
	o := &Operator{log: name + ".log", done: make(chan struct{})}
	if err := s.credentials(ctx, o, name+".kubeconfig", server); err != nil {
		return nil, err
	}
	var err error
	if o.metrics, o.health, err = freeAddresses(ctx); err != nil {
		return nil, err
	}
	log, err := os.Create(o.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                                                                           // the child has its own copy
	o.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.binary, "--kubeconfig="+name+".kubeconfig", "--leader-elect=true", //nolint:gosec // the tests' own
		"--metrics-bind-address="+o.metrics, "--metrics-secure=false", "--health-probe-bind-address="+o.health)
	o.cmd.Stderr = log
	if err := s.Cluster.Spawn(o.cmd); err != nil {
		return nil, err
	}
	go func() {
		_ = o.cmd.Wait()
		close(o.done)
	}()
	return o, nil
}

// credentials writes a kubeconfig with a token of its own for an operator.
func (s *Site) credentials(ctx context.Context, o *Operator, path string, server *Server) error {
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: account}}
	token := &authenticationv1.TokenRequest{}
	if err := s.Client.SubResource("token").Create(ctx, object, token); err != nil {
		return err
	}
	parts := strings.Split(token.Status.Token, ".")
	if len(parts) != 3 {
		return errors.New("the token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	claims := struct{ JTI string }{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	o.Credential = "JTI=" + claims.JTI
	const name = "test"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server.URL, CertificateAuthorityData: server.CA}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}

// Kill is kill -9. It returns when the process is gone; one that has ended already is no error.
func (o *Operator) Kill() {
	_ = o.cmd.Process.Kill()
	<-o.done
}

// Done is closed when the process has ended.
func (o *Operator) Done() <-chan struct{} { return o.done }

// Ready returns an error unless the operator is ready.
func (o *Operator) Ready(ctx context.Context) error {
	select {
	case <-o.done:
		return fmt.Errorf("the operator has ended (%s): %s", o.cmd.ProcessState, o.Tail())
	default:
	}
	_, err := get(ctx, "http://"+o.health+"/readyz")
	return err
}

// Leads returns an error unless the operator holds the lease.
func (o *Operator) Leads(ctx context.Context) error {
	body, err := get(ctx, "http://"+o.metrics+"/metrics")
	if err != nil {
		return err
	}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "leader_election_master_status{") && strings.HasSuffix(strings.TrimSpace(line), " 1") {
			return nil
		}
	}
	return errors.New("it does not lead")
}

// Tail returns the end of the log.
func (o *Operator) Tail() string {
	data, err := os.ReadFile(o.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// get returns the body of an answer 200, over a connection of its own.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return string(body), err
}

// freeAddresses returns two addresses of loopback below the range from which Linux takes the ports of outgoing connections.
func freeAddresses(ctx context.Context) (first, second string, err error) {
	var config net.ListenConfig
	var found []string
	for range 200 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000))) //nolint:gosec // G404: a port number is no secret
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // held until both are found, so that they differ
		if found = append(found, address); len(found) == 2 {
			return found[0], found[1], nil
		}
	}
	return "", "", errors.New("no two free TCP ports between 20000 and 32000 on 127.0.0.1")
}
