"""What S3 does and its model does not say: root elements, twins, and our own coverage."""

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XSI_NAMESPACE = "http://www.w3.org/2001/XMLSchema-instance"

OUTPUT_ROOTS: dict[str, str] = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotification": "NotificationConfiguration",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult",
}
"""Root element of an answer where it is not the output shape's name with Result for Output."""

UNROUTED = frozenset(
    {
        "GetBucketLifecycle",
        "GetBucketNotification",
        "PutBucketLifecycle",
        "PutBucketNotification",
        "ListDirectoryBuckets",
    }
)
"""Deprecated twins, and the directory-bucket form of ListBuckets that only its host tells apart."""

PARTIAL: dict[str, str] = {
    "CopyObject": "streams the bytes anew",
    "CreateBucket": "no object lock, no ACL grants",
    "CreateMultipartUpload": "no tags, no object lock, no KMS or customer keys",
    "DeleteObject": "unversioned buckets",
    "DeleteObjects": "unversioned buckets",
    "GetBucketAccelerateConfiguration": "never configured",
    "GetBucketAcl": "owner has full control",
    "GetBucketCors": "never configured",
    "GetBucketEncryption": "always AES256",
    "GetBucketLifecycleConfiguration": "never configured",
    "GetBucketLogging": "never configured",
    "GetBucketNotificationConfiguration": "never configured",
    "GetBucketOwnershipControls": "always BucketOwnerEnforced",
    "GetBucketPolicy": "never configured",
    "GetBucketPolicyStatus": "never configured",
    "GetBucketReplication": "never configured",
    "GetBucketRequestPayment": "always BucketOwner",
    "GetBucketTagging": "never configured",
    "GetBucketVersioning": "unversioned buckets",
    "GetBucketWebsite": "never configured",
    "GetObject": "unversioned buckets",
    "GetObjectAcl": "owner has full control",
    "GetObjectLegalHold": "never configured",
    "GetObjectLockConfiguration": "never configured",
    "GetObjectRetention": "never configured",
    "GetObjectTagging": "objects carry no tags",
    "GetPublicAccessBlock": "public access is always blocked",
    "HeadObject": "unversioned buckets",
    "ListObjectVersions": "unversioned buckets: every object is version null",
    "PutBucketAcl": "owner has full control",
    "PutObjectAcl": "owner has full control",
    "PutObject": "no tags, no object lock, no KMS or customer keys",
    "UploadPartCopy": "streams the bytes anew",
}
"""Operations served in part, and what the part is. The rest of the served ones are full."""
