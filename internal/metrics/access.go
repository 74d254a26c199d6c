// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// reviewTimeout bounds the two questions that one request costs.
	reviewTimeout = 10 * time.Second
	// maxReviews bounds how many requests are judged at a time: whoever reaches the port must not be able to make us
	// flood the API server.
	maxReviews = 4
)

// access asks the API server who a caller is and whether that one may do what it asks for. Nothing is remembered: a scrape
// costs two requests, and a revoked token is refused at once. It does what controller-runtime's metrics/filters does,
// which would link the API server's own libraries: 20 MB of memory and as much of the binary.
type access struct {
	tokens   authentication.TokenReviewInterface
	accesses authorization.SubjectAccessReviewInterface
	reviews  chan struct{}
}

// Access returns a filter that lets through callers whose bearer token the API server authenticates (TokenReview) and who
// may use the request's verb on its path (SubjectAccessReview on a non-resource URL, such as get /metrics). It answers 401
// and 403 to all others, 503 when the API server could not be asked, and 429 when too many ask at once.
func Access(config *rest.Config, httpClient *http.Client) (metricsserver.Filter, error) {
	tokens, err := authentication.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("client for TokenReviews: %w", err)
	}
	accesses, err := authorization.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("client for SubjectAccessReviews: %w", err)
	}
	a := &access{tokens: tokens.TokenReviews(), accesses: accesses.SubjectAccessReviews(), reviews: make(chan struct{}, maxReviews)}
	return func(log logr.Logger, next http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			code, err := a.judge(req)
			if err != nil {
				log.Error(err, "Cannot judge a request for metrics", "path", req.URL.Path)
			}
			if code != http.StatusOK {
				http.Error(w, http.StatusText(code), code)
				return
			}
			next.ServeHTTP(w, req)
		}), nil
	}, nil
}

// judge returns the status code that the caller deserves; only 200 lets it through.
func (a *access) judge(req *http.Request) (int, error) {
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return http.StatusUnauthorized, nil
	}
	select {
	case a.reviews <- struct{}{}:
		defer func() { <-a.reviews }()
	default:
		return http.StatusTooManyRequests, nil
	}
	ctx, cancel := context.WithTimeout(req.Context(), reviewTimeout)
	defer cancel()
	who, err := a.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return http.StatusServiceUnavailable, fmt.Errorf("authenticating: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	may, err := a.accesses.Create(ctx, question(who.Status.User, req), metav1.CreateOptions{})
	if err != nil {
		return http.StatusServiceUnavailable, fmt.Errorf("authorizing %s: %w", who.Status.User.Username, err)
	}
	if !may.Status.Allowed || may.Status.Denied {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}

// question asks whether a user may do what a request asks for.
func question(user authenticationv1.UserInfo, req *http.Request) *authorizationv1.SubjectAccessReview {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: strings.ToLower(req.Method), Path: req.URL.Path},
	}
	if len(user.Extra) > 0 {
		spec.Extra = map[string]authorizationv1.ExtraValue{}
		for key, values := range user.Extra {
			spec.Extra[key] = authorizationv1.ExtraValue(values)
		}
	}
	return &authorizationv1.SubjectAccessReview{Spec: spec}
}
