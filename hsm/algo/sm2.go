package algo

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
)

// SM3 is the hash of GB/T 32905-2016.
func SM3(data []byte) [32]byte { return sm3.Sum(data) }

// SM2DefaultID is the identity of a signer who has none (GM/T 0009-2012, 10).
const SM2DefaultID = "1234567812345678"

// SM2Digest is what an SM2 signature is over (GB/T 32918.2-2016, 5.5 and 6.1):
// za is the hash of the signer's identity, the curve and the public key, e the
// hash of za and the message. pub is 04, X and Y in 65 bytes; an empty id is
// SM2DefaultID.
func SM2Digest(pub, id, msg []byte) (za, e [32]byte, err error) {
	key, err := sm2.NewPublicKey(pub)
	if err != nil {
		return za, e, fmt.Errorf("algo: not an SM2 public key: %w", err)
	}
	if len(id) > 8191 {
		return za, e, errors.New("algo: an SM2 identity has at most 8191 bytes: its length in bits has two")
	}
	z, err := sm2.CalculateZA(key, id)
	if err != nil {
		return za, e, fmt.Errorf("algo: SM2 digest: %w", err)
	}
	copy(za[:], z)
	return za, sm3.Sum(append(z, msg...)), nil
}

// SM2Verify reports whether r and s are the signature of msg by the owner of
// pub (GB/T 32918.2-2016, 7.1). The error says that pub is no key; a wrong
// signature of any shape is false.
func SM2Verify(pub, id, msg, r, s []byte) (bool, error) {
	key, err := sm2.NewPublicKey(pub)
	if err != nil {
		return false, fmt.Errorf("algo: not an SM2 public key: %w", err)
	}
	_, e, err := SM2Digest(pub, id, msg)
	if err != nil {
		return false, err
	}
	ri, si := new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)
	if n := sm2.P256().Params().N; ri.Cmp(n) >= 0 || si.Cmp(n) >= 0 {
		return false, nil
	}
	return sm2.Verify(key, e[:], ri, si), nil
}

// SM2Decrypt decrypts what was encrypted to a public key (GB/T 32918.4-2016,
// 7.1): C1, a point in 65 bytes, C3, the hash, C2, the text. old takes the
// order of the draft of 2010: C1, C2, C3. priv has 32 bytes.
func SM2Decrypt(priv, ciphertext []byte, old bool) ([]byte, error) {
	key, err := sm2.NewPrivateKey(priv)
	if err != nil {
		return nil, errors.New("algo: not an SM2 private key")
	}
	if len(ciphertext) < 65+32+1 || ciphertext[0] != 4 {
		return nil, errors.New("algo: an SM2 ciphertext has a point of 65 bytes that starts with 04, a hash of 32 and some text")
	}
	order := sm2.C1C3C2
	if old {
		order = sm2.C1C2C3
	}
	out, err := key.Decrypt(nil, ciphertext, sm2.NewPlainDecrypterOpts(order))
	if err != nil {
		return nil, errors.New("algo: not an SM2 ciphertext of this key")
	}
	return out, nil
}
